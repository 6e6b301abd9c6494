"""The screens of trace and doctor: in words, cleaned, and with the exit status that says whether it works."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netbridge.bridge.doctor.report import Check, Report, fault, note, ok, there, warning
from netbridge.bridge.errors import TargetLacksError
from netbridge.bridge.trace.found import Answer, Captured, Connect, Names, Target, Trace, Way
from netbridge.cli import doctor, program, trace

EVIL = "\x1b]0;owned\x07\x1b[2Jevil\u202e"


def example() -> Trace:
    return Trace(
        "www", 80, {"target": "ssh://dev", "state": "running", "number": 0},
        Names(["10.1.2.3"], "bridge", "198.18.0.1", "www.corp", 0.012, answers=[
            Answer("own", "127.0.0.53", "www.corp", "NXDOMAIN", [], 0.001),
            Answer("bridge", "198.18.0.1", "www.corp", "NOERROR", ["10.1.2.3"], 0.011),
            Answer("own", "127.0.0.53", "www.else", "NXDOMAIN", [], 0.001),
        ]),
        Names(["10.1.2.3"], "here", "10.0.0.2", "www.corp", 0.003),
        [Target(
            "10.1.2.3", ["there", "here"], Captured("captured", "10.0.0.0/8", "routed by 10.8.0.1 on tun0"),
            Way("nb0", "10.0.0.0/8", "", "198.18.0.2", "unicast"), None, "10.1.2.3", True, "",
            Way("tun0", "10.0.0.0/8", "10.8.0.1", "10.8.0.7", "unicast"), Connect("", "", 0.0034),
        )], works=True,
    )  # fmt: skip


def test_the_screen_of_a_trace() -> None:
    assert trace.lines(example().as_json()) == [
        "www port 80: by the bridge to ssh://dev (running)",
        "",
        "name over there",
        "  www.corp: 10.1.2.3 (by the bridge 198.18.0.1, 12.0 ms)",
        "    own nameserver 127.0.0.53, www.corp: NXDOMAIN (1.0 ms)",
        "    bridge 198.18.0.1, www.corp: 10.1.2.3 (11.0 ms)",
        "",
        "name here",
        "  www.corp: 10.1.2.3 (by nameserver 10.0.0.2, 3.0 ms)",
        "",
        "10.1.2.3",
        "  route there   10.0.0.0/8 on nb0 from 198.18.0.2",
        "  captured      yes, by 10.0.0.0/8 (routed by 10.8.0.1 on tun0)",
        "  policy        allowed",
        "  route here    10.0.0.0/8 on tun0 by 10.8.0.1 from 10.8.0.7",
        "  from here     connected (3.4 ms)",
        "",
        "It works.",
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["captured", "wanted", "excluded", "overlap", "left out", "never", "not wanted"])
@pytest.mark.parametrize("code", ["", "ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH"])
def test_every_state_has_its_words(state: str, code: str) -> None:
    found = example().as_json()
    found["targets"][0]["captured"] = {"state": state, "network": "10.0.0.0/8", "reason": "some reason"}
    found["targets"][0]["connect_there"] = {"code": code, "error": "No route to host", "seconds": 1.5}
    text = "\n".join(trace.lines(found))
    assert "some reason" in text
    assert "1.5 s" in text


def poisoned(value: Any) -> Any:
    """The same with evil in every text."""
    if isinstance(value, dict):
        return {key: poisoned(item) if key not in {"who", "state", "code"} else item for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return EVIL if isinstance(value, str) and value else value


def test_nothing_of_the_targets_reaches_the_terminal() -> None:
    for line in trace.lines(poisoned(copy.deepcopy(example().as_json()))):
        assert line.isprintable()


def test_the_problem_is_the_last_line_and_the_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    found = example()
    found.works, found.problem = False, {"what": "It is closed.", "why": f"So says {EVIL}.", "todo": "Open it."}
    monkeypatch.setattr(trace, "_ask", lambda host, port, target: found.as_json())
    assert program.run(["trace", "www:80"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("netbridge: It is closed. So says \\x1b]0;owned")
    assert last.isprintable()
    assert program.run(["trace", "www:80", "--json"]) == 1
    monkeypatch.setattr(trace, "_ask", lambda host, port, target: example().as_json())
    assert program.run(["trace", "www:80"]) == 0
    assert program.run(["trace", "www:"]) == 2
    assert program.run(["trace"]) == 2


def test_the_screen_of_a_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    screen = doctor._Screen(quiet=False)
    error = TargetLacksError("It lacks a TUN.", f"Because {EVIL}.", 'Add "runArgs": ["--device=/dev/net/tun"].')
    report = Report(f"ssh://{EVIL}")
    for check in (ok("python", "3.11"), warning("gh", "old", "Why.", "Update it."), note("x", "y"),
                  there(fault("capture", error)), there(ok("host", EVIL))):  # fmt: skip
        report.checks.append(check)
        screen.tell(check)
    screen.progress(f"reaching {EVIL}")
    screen.sum_up(report)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "this machine", "  ok       python           3.11", "  warning  gh               old", " " * 28 + "Why.",
    ]
    assert '  FAULT    capture          It lacks a TUN.' in lines
    assert " " * 28 + 'Add "runArgs": ["--device=/dev/net/tun"].' in lines
    assert lines[-1].endswith("would not work (1 fault, 1 warning).")
    assert all(line.isprintable() for line in lines)


def test_a_quiet_doctor_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    screen = doctor._Screen(quiet=True)
    screen.tell(Check("a", "ok", "b"))
    screen.progress("c")
    assert capsys.readouterr().err == ""
