"""Words to commands: what is understood, what each misunderstanding is told, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from netbridge import __version__
from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError, UsageError
from netbridge.bridge.options import Options
from netbridge.cli import up as up_module
from netbridge.cli.failures import peek, told
from netbridge.cli.program import run

from .program import SOURCE

Capture = pytest.CaptureFixture[str]


@pytest.fixture(name="started")
def what_would_be_started(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """`up` only notes what it was asked for."""
    started: list[Options] = []

    def bridge(options: Options, *_: object) -> Any:
        started.append(options)

    monkeypatch.setattr(up_module, "_bridge", bridge)
    monkeypatch.setattr(up_module, "run_loop", lambda bridge: 0)
    monkeypatch.setenv("NETBRIDGE_CONFIG", "")
    return started


def test_version_and_help_are_for_standard_output(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    first, *libraries = capsys.readouterr().out.splitlines()
    assert first == f"netbridge {__version__}"
    assert {line.split()[0] for line in libraries} >= {"python", "asyncssh", "dnslib", "uvloop"}
    assert all(line.split()[1][0].isdigit() for line in libraries)
    assert run(["up", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--route", "--exclude", "--all", "--dns-domain", "--allow", "--deny", "--ssh", "--mtu", "--pcap"):
        assert option in shown


def test_every_option_reaches_the_session(started: list[Options]) -> None:
    words = (
        "up ssh://dev -r 10.0.0.0/8 --route fd00::/8 -x 10.1.0.0/16 --all --dns all --dns-domain corp.test"
        " --allow 127.0.0.1:80 --deny 10.2.0.0/16:22 --ssh openssh --mtu 1400 --gui false --trace-level warn"
        " --log-format json --log-size 64k --pcap /tmp/x.pcap"
    )
    assert run(words.split()) == 0
    (options,) = started
    assert options.target == "ssh://dev"
    assert options.route == ("10.0.0.0/8", "fd00::/8")
    assert options.exclude == ("10.1.0.0/16",)
    assert options.capture_all is True
    assert (options.dns, options.dns_domain, options.ssh, options.mtu) == ("all", ("corp.test",), "openssh", 1400)
    assert (options.allow, options.deny) == (("127.0.0.1:80",), ("10.2.0.0/16:22",))
    assert (options.gui, options.trace_level, options.log_format) == (False, "warn", "json")
    assert options.log_size == 64 << 10
    assert options.command == ()


def test_options_may_stand_before_the_target(started: list[Options]) -> None:
    assert run(["up", "-r", "10.0.0.0/8", "sandbox"]) == 0
    assert (started[0].target, started[0].route) == ("sandbox", ("10.0.0.0/8",))


def test_nothing_behind_the_dashes_is_ours(started: list[Options]) -> None:
    command = ["curl", "--help", "-r", "0-9", "--", "--version"]
    assert run(["up", "sandbox", "--", *command]) == 0
    assert started[0].command == tuple(command)
    assert started[0].route == ()
    # The target may come from the environment; COMMAND is then not taken for it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETBRIDGE_TARGET", "sandbox")
        assert run(["up", "--", "true"]) == 0
    assert (started[1].target, started[1].command) == ("sandbox", ("true",))


def test_gui_true_says_why_it_is_not_shown(started: list[Options], capsys: Capture) -> None:
    assert run(["up", "sandbox", "--gui", "true"]) == 0
    assert "the terminal is the command's" in capsys.readouterr().err
    assert run(["up", "ssh://box", "--gui", "true"]) == 0
    assert "there is no terminal for the UI" in capsys.readouterr().err
    assert run(["up", "ssh://box", "--gui", "false"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("words", "gui"), [
    ("", None), ("--gui", True), ("--gui true", True), ("--gui=true", True), ("--gui TRUE", True),
    ("--gui false", False), ("--gui=false", False), ("--no-gui", False), ("--gui --mtu 1400", True),
])
def test_forms_of_gui(words: str, gui: bool | None, started: list[Options]) -> None:
    """Those of gh net, and a flag's own; wherever it stands, the target is the target."""
    assert run(["up", "sandbox", *words.split()]) == 0
    assert run(["up", *words.split(), "sandbox"]) == 0
    assert run(["up", *words.split(), "sandbox", "--", "--gui", "false"]) == 0
    assert [(options.gui, options.target) for options in started] == [(gui, "sandbox")] * 3
    assert started[2].command == ("--gui", "false")


@pytest.mark.parametrize("level", ["none", "trace", "debug", "info", "warn", "error"])
def test_trace_levels_of_gh_net(level: str, started: list[Options]) -> None:
    assert run(["up", "sandbox", "--trace-level", level]) == 0
    assert run(["up", "sandbox", f"--trace-level={level.upper()}"]) == 0
    assert [options.trace_level for options in started] == [level, level]


def test_every_line_is_json_where_json_was_asked_for(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracebacks, and what Python itself would print."""
    def fail(*_: object) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("a library is old", DeprecationWarning, stacklevel=1)
        raise RuntimeError("surprise")

    monkeypatch.setattr(up_module, "_bridge", lambda *_: None)
    monkeypatch.setattr(up_module, "run_loop", fail)
    asked = ["--log-format", "json", "--trace-level", "trace"]
    assert run(["up", "sandbox", *asked]) == 1
    assert run(["up", *asked, "--mtu", "1"]) == 2
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {record["event"] for record in records} == {"log", "traceback", "failed"}
    assert all(record["time"] > 1_700_000_000 for record in records)
    assert [record["event"] for record in records].count("failed") == 2


@pytest.mark.parametrize(("words", "said"), [
    ("upp", "upp"),
    ("up --colour", "--colour"),
    ("up sandbox curl -r 10.0.0.0/8", "netbridge up TARGET -- curl"),
    ("up sandbox --mtu", "--mtu"),
    ("up sandbox --mtu 12", "1280"),
    ("up sandbox --gui maybe", "maybe"),
    ("up sandbox -r nowhere", "nowhere"),
    ("up sandbox --dns off --dns-domain a", "contradict"),
    ("up sandbox --config /nonexistent/file", "/nonexistent/file"),
    ("up sandbox --log-file /nonexistent/file", "/nonexistent/file"),
    ("status -- ls", "COMMAND"),
    ("down sandbox --all", "contradict"),
    ("up", "target"),
    ("up -c sandbox", "not the name of a codespace"),
    ("up fluffy -c robot", "Two targets"),
    ("up docker://-box", "docker"),
    ("up ssh://-oProxyCommand=x", "ssh"),
    ("surgeon", "surgeon"),
    ("doctor -c sandbox", "not the name of a codespace"),
    ("doctor nonsense://x", "nonsense"),
    ("trace", "PLACE"),
    ("trace a:b", "no port"),
])
def test_misunderstandings_are_usage_errors(words: str, said: str, capsys: Capture) -> None:
    assert run(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.startswith("netbridge: ")
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(("words", "stream", "code"), [
    ("up", "stderr", 2),  # told by `up` itself
    ("upp", "stderr", 2),  # told by the front door
    ("--version", "stdout", 1),
    ("status --json", "stdout", 1),
])
def test_what_cannot_be_printed_changes_no_exit_code_but_that_of_lost_output(
    words: str, stream: str, code: int, tmp_path: Path
) -> None:
    """As on a terminal that was closed; Python would make it 120."""
    environment = {**os.environ, "PYTHONPATH": SOURCE, "NETBRIDGE_RUNTIME_DIR": str(tmp_path), "NETBRIDGE_CONFIG": ""}
    with open("/dev/full", "wb") as full:
        streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: full}
        done = subprocess.run(
            [sys.executable, "-m", "netbridge", *words.split()], env=environment, check=False, **streams)
    assert done.returncode == code


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_had_enough_is_not_told_of_it(unbuffered: str) -> None:
    """`netbridge config example | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": unbuffered}
    with open(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "netbridge", "config", "example"], env=environment, check=False, stdout=out,
            stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_failure_is_json_where_json_was_asked_for(capsys: Capture) -> None:
    assert run(["up", "--log-format", "json", "--mtu", "1"]) == 2
    failed = json.loads(capsys.readouterr().err)
    assert failed["event"] == "failed"
    assert failed["exit_code"] == 2
    assert all(failed[part].endswith(".") for part in ("what", "why", "todo"))


@pytest.mark.parametrize(("error", "code"), [
    (BridgeError("What.", "Why.", "Do."), 1),
    (UsageError("What.", "Why.", "Do."), 2),
    (TargetUnreachableError("What.", "Why.", "Do."), 3),
    (NotPermittedError("What.", "Why.", "Do."), 4),
    (TargetLacksError("What.", "Why.", "Do."), 5),
    (RuntimeError("surprise"), 1),
    (ExceptionGroup("group", [TargetLacksError("What.", "Why.", "Do.")]), 5),
])
@pytest.mark.parametrize("traced", [False, True])
def test_failures_have_three_sentences_and_their_code(
    error: Exception, code: int, traced: bool, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(up_module, "_bridge", lambda *_: None)
    monkeypatch.setattr(up_module, "run_loop", fail)
    assert run(["up", "sandbox", *(["--trace-level", "trace"] if traced else [])]) == code
    shown = capsys.readouterr().err
    assert ("Traceback" in shown) == traced
    assert shown.splitlines()[-1].count(".") >= 3


def test_an_interrupt_before_the_loop_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(up_module, "_bridge", lambda *_: None)
    monkeypatch.setattr(up_module, "run_loop", interrupt)
    assert run(["up", "sandbox"]) == 0


def test_status_without_bridges(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bridges": []}
    assert run(["status"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "No bridge is running.\n")
    assert run(["down", "--all"]) == 0
    assert run(["down"]) == 3
    assert run(["down", "sandbox"]) == 3
    assert not (tmp_path / "run").exists()


def test_peek_reads_what_could_not_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peek(["up", "--trace-level", "trace"], "trace-level") == "trace"
    assert peek(["up", "--trace-level=trace"], "trace-level") == "trace"
    assert peek(["up", "--", "--trace-level", "trace"], "trace-level") == ""
    assert peek(["up", "--trace-level"], "trace-level") == ""
    monkeypatch.setenv("NETBRIDGE_TRACE_LEVEL", "debug")
    assert peek([], "trace-level") == "debug"


def test_told_keeps_a_bridge_error_and_opens_groups_of_one() -> None:
    error = NotPermittedError("What.")
    assert told(error) is error
    assert told(BaseExceptionGroup("g", [ExceptionGroup("h", [error])])) is error


def test_the_terminal_ui_is_loaded_only_when_it_is_shown() -> None:
    modules = ", ".join(f"netbridge.{name}" for name in ("cli.program", "cli.up", "cli.attach", "bridge.session"))
    code = f"import sys, {modules}\nsys.exit('textual' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
