"""`netbridge service`: the files that are written, for whom, and what is said; without asking a service manager.

test_service_systemd.py lets a real systemd run them.
"""

from __future__ import annotations

import json
import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from netbridge.bridge import user as user_module
from netbridge.bridge.errors import UsageError
from netbridge.bridge.user import User
from netbridge.cli.launchd import Launchd
from netbridge.cli.program import run
from netbridge.cli.service_job import Job, job, service_name
from netbridge.cli.systemd import Systemd, command_line, quoted

Capture = pytest.CaptureFixture[str]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")
UNIT = ".config/systemd/user/netbridge-fluffy.service"


@pytest.fixture(name="home")
def home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, in which no manager is to be had."""
    for name in [name for name in os.environ if name.startswith(("NETBRIDGE_", "XDG_", "SUDO_", "DBUS_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def me(home: Path, **environment: str) -> User:
    environment = {"HOME": str(home), "PATH": "/bin", **environment}
    return User("me", os.geteuid(), os.getegid(), (), home, "/bin/sh", environment, differs=False)


# --- what is run ------------------------------------------------------------------------------------------------------


def test_options_become_words_whose_paths_are_absolute(home: Path, tmp_path: Path) -> None:
    words = (
        "ssh://dev -r 10.0.0.0/8 --route fd00::/8 --all --no-host-alias --limit tcp-flows=10 --gui true --log-file log"
        " --pcap /x/pcap --mtu=1400"
    )
    made = job(words.split(), me(home))
    place = made.words.index("up")
    assert made.words[place:place + 3] == ("up", "ssh://dev", "--gui=false")
    assert set(made.words[place + 3:]) == {
        "--route=10.0.0.0/8", "--route=fd00::/8", "--all", "--no-host-alias", "--limit=tcp-flows=10", "--mtu=1400",
        f"--log-file={tmp_path}/log", "--pcap=/x/pcap",
    }


def test_the_words_mean_to_up_what_they_meant_to_install(home: Path) -> None:
    """Whatever options `up` has: what was written is read by the same parser."""
    words = ["-c", "fluffy", "-x", "10.0.0.0/8", "--deny", "local", "--log-size", "0", "--dns-domain", "a", "--no-all"]
    made = job(words, me(home))
    again = job(made.words[made.words.index("up") + 1:], me(home))
    assert again == made
    assert made.target == "fluffy"


def test_settings_of_the_environment_are_taken_along(home: Path, tmp_path: Path) -> None:
    user = me(
        home, NETBRIDGE_MTU="1400", NETBRIDGE_LOG_FILE="log", NETBRIDGE_CONFIG="", NETBRIDGE_GUI="true", OTHER="x",
        NETBRIDGE_RUNTIME_DIR="/r", NETBRIDGE_TARGET="fluffy",
    )
    made = job([], user)
    assert made.target == "fluffy"
    assert made.environment == {
        "PATH": "/bin", "NETBRIDGE_MTU": "1400", "NETBRIDGE_LOG_FILE": f"{tmp_path}/log", "NETBRIDGE_RUNTIME_DIR": "/r",
    }


@pytest.mark.parametrize("script", [True, False])
def test_it_is_this_very_program(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: bool) -> None:
    """Its script, by the path it was called by, a link included; without one the interpreter with the package."""
    real, link = tmp_path / "real", tmp_path / "netbridge"
    real.touch(0o755)
    link.symlink_to(real)
    monkeypatch.setattr(sys, "argv", [str(link if script else tmp_path / "__main__.py")])
    words = job(["fluffy"], me(home)).words
    assert words[:words.index("up")] == ((str(link),) if script else (sys.executable, "-P", "-m", "netbridge"))


def test_names_are_one_to_one_and_safe() -> None:
    targets = ["fluffy-robot-1", "ssh://a-b", "ssh://a/b", "ssh://a_b", "exec:a b", "exec:../../x", "exec:" + "x" * 900]
    names = [service_name(target) for target in targets]
    assert names[0] == "netbridge-fluffy-robot-1"
    assert len(set(names)) == len(names)
    for name in names:
        assert all(character.isalnum() or character in "_.-" for character in name)
        assert len(name) < 100


@pytest.mark.parametrize(("words", "code", "said"), [
    ("install", 2, "No target"),
    ("install sandbox", 2, "sandbox cannot be a service"),
    ("install box://box", 2, "box"),
    ("install fluffy --take-over", 2, "cannot take a bridge over"),
    ("install fluffy --colour", 2, "--colour"),
    ("install fluffy --mtu 12", 2, "1280"),
    ("install fluffy again", 2, "again"),
    ("install fluffy -- ls", 2, "COMMAND"),
    ("uninstall", 2, "target"),
    ("start", 2, "start"),
])
def test_misunderstandings(home: Path, words: str, code: int, said: str, capsys: Capture) -> None:
    assert run(["service", *words.split()]) == code
    captured = capsys.readouterr()
    assert said.lower() in captured.err.lower()
    assert captured.err.count("\n") == 1
    assert list(home.iterdir()) == []


# --- the unit ---------------------------------------------------------------------------------------------------------

NASTY = ("%h", "$HOME", "${HOME}", "a b", 'say "no"', "it's", "back\\slash\\", ";", "", "#", "\u00e4\u200b", "\t", "@x")


@pytest.mark.parametrize(("word", "said"), [
    ("plain-word_1./:=@,+", "plain-word_1./:=@,+"), ("", '""'), ("a b", '"a b"'), (";", '";"'), ("%h", "%%h"),
    ("$HOME", "$$HOME"), ('"', '"\\""'), ("\\", '"\\\\"'), ("'", '"\'"'), ("\n", '"\\x0a"'), ("ä", '"ä"'),
    ("\u200b", '"\\xe2\\x80\\x8b"'),
])
def test_words_are_quoted_as_systemd_reads_them(word: str, said: str) -> None:
    assert quoted(word, dollar=True) == said


def test_a_dollar_in_the_programs_path() -> None:
    assert command_line(("/a/b", "$x")) == "/a/b $$x"
    assert command_line(("/a/$b c", "x")) == '@"/a/$b c" "/a/$$b c" x'


@pytest.mark.parametrize("character", ["'", '"', "\\", "\n"])
def test_a_path_that_systemd_refuses(home: Path, character: str) -> None:
    with pytest.raises(UsageError, match="systemd refuses"):
        Systemd(me(home)).text(Job("netbridge-x", "x", (f"/bin/a{character}b", "x"), {}))


@LINUX
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_real_systemd_finds_no_fault_in_the_unit(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "dollar $HOME %h" / "netbridge"
    program.parent.mkdir()
    program.touch(0o755)
    nasty = Job("netbridge-x", "exec:a \\", (str(program), *NASTY), {"PATH": "/a b:%h:$x\\", "NETBRIDGE_X": "'\""})
    text = Systemd(me(home)).text(nasty)
    assert Systemd(me(home)).target(text) == nasty.target
    assert verified(tmp_path, text) == ""
    assert "silly" in verified(tmp_path, text.replace(b"=mixed", b"=silly")), "it would have told"


def verified(folder: Path, text: bytes) -> str:
    (folder / "netbridge-x.service").write_bytes(text)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "LANG": "C"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", "netbridge-x.service"], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("make", [Systemd, Launchd])
def test_bytes_that_are_no_text_are_refused(home: Path, make: type[Systemd | Launchd]) -> None:
    with pytest.raises(UsageError, match="no UTF-8"):
        make(me(home)).text(Job("netbridge-x", "x", ("/bin/true", "\udcff"), {}))


# --- install, status, uninstall ---------------------------------------------------------------------------------------


@LINUX
def test_install_says_what_it_did_and_what_is_next(home: Path, capsys: Capture) -> None:
    assert run(["service", "install", "fluffy", "-r", "10.0.0.0/8"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"Wrote {home}/{UNIT}." in said.err
    for command in ("systemctl --user daemon-reload", "systemctl --user enable --now netbridge-fluffy.service",
                    "loginctl enable-linger", "journalctl --user --unit netbridge-fluffy.service"):
        assert command in said.err
    assert "paid for" in said.err, "a codespace costs"
    unit = (home / UNIT).read_text()
    assert " up fluffy --gui=false --route=10.0.0.0/8\n" in unit
    assert stat.S_IMODE((home / UNIT).stat().st_mode) == 0o600

    before = (home / UNIT).stat()
    assert run(["service", "install", "fluffy", "-r", "10.0.0.0/8"]) == 0
    assert "as it should be" in capsys.readouterr().err
    assert (home / UNIT).stat() == before, "nothing was written"

    assert run(["service", "install", "fluffy"]) == 0
    said = capsys.readouterr()
    assert "Wrote" in said.err
    assert "systemctl --user restart netbridge-fluffy.service" in said.err, "what runs, runs with the old file"
    assert "--route" not in (home / UNIT).read_text()
    assert os.listdir((home / UNIT).parent) == ["netbridge-fluffy.service"]


@LINUX
def test_without_a_manager_commands_are_printed_and_nothing_fails(home: Path, capsys: Capture) -> None:
    assert run(["service", "install", "fluffy", "--now"]) == 0
    said = capsys.readouterr().err
    assert "cannot be asked here" in said
    assert "  systemctl --user enable --now netbridge-fluffy.service" in said
    wants = (home / UNIT).parent / "default.target.wants"
    wants.mkdir()
    (wants / "netbridge-fluffy.service").symlink_to(home / UNIT)

    assert run(["service", "status"]) == 0
    assert "netbridge-fluffy: fluffy: installed" in capsys.readouterr().err
    assert run(["service", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "services": [{"name": "netbridge-fluffy", "target": "fluffy", "file": f"{home}/{UNIT}"}]
    }

    assert run(["service", "uninstall", "fluffy"]) == 0
    assert "netbridge down fluffy" in capsys.readouterr().err
    assert [path for path in (home / ".config").rglob("*") if not path.is_dir()] == []
    assert run(["service", "uninstall", "fluffy"]) == 0
    assert "There is no service for fluffy." in capsys.readouterr().err
    assert run(["service", "status"]) == 0
    assert "No service is installed." in capsys.readouterr().err


@LINUX
def test_uninstall_takes_the_name_as_well(home: Path, capsys: Capture) -> None:
    target = "exec:docker exec -i box sh"
    assert run(["service", "install", target]) == 0
    assert run(["service", "uninstall", f"{service_name(target)}.service"]) == 0
    assert "netbridge down 'exec:docker exec -i box sh'" in capsys.readouterr().err
    assert run(["service", "uninstall", "../../../netbridge-x"]) == 0


@LINUX
def test_a_file_of_somebody_else_is_left_alone(home: Path, capsys: Capture) -> None:
    unit = home / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for words in ("install", "uninstall"):
        assert run(["service", words, "fluffy"]) == 1
        assert "was not written by netbridge" in capsys.readouterr().err
    assert run(["service", "status"]) == 0
    assert "No service is installed." in capsys.readouterr().err
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"


@LINUX
def test_a_folder_that_cannot_be_written(home: Path, capsys: Capture) -> None:
    (home / ".config").write_text("a file")
    assert run(["service", "install", "fluffy"]) == 1
    assert "cannot be read or written" in capsys.readouterr().err


@LINUX
@needs_root
def test_under_sudo_it_is_the_callers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:
    for name, value in {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}.items():
        monkeypatch.setenv(name, value)
    his = tmp_path / "his"
    monkeypatch.setattr(
        user_module, "_environment_of_sudo",
        lambda: {"HOME": str(his), "PATH": "/his/bin:/usr/bin:/bin", "XDG_CONFIG_HOME": str(his / "c")},
    )
    program = tmp_path / "netbridge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    # His rights count: root's would get into a folder that is closed to him.
    his.mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    assert run(["service", "install", "fluffy"]) == 4
    assert "may not run" in capsys.readouterr().err
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o077 == 0:
            folder.chmod(0o755)
    assert run(["service", "install", "fluffy"]) == 4
    assert "cannot be read or written" in capsys.readouterr().err
    shutil.chown(his, 65534, 65534)
    assert run(["service", "install", "fluffy"]) == 0
    unit = his / "c/systemd/user/netbridge-fluffy.service"
    assert {path.stat().st_uid for path in his.rglob("*")} == {65534}
    assert "Environment=PATH=/his/bin:/usr/bin:/bin\n" in unit.read_text()
    assert "SUDO" not in unit.read_text()
    assert "enable-linger nobody" in capsys.readouterr().err
    assert not (home / ".config").exists()
    assert run(["service", "uninstall", "fluffy"]) == 0
    assert not unit.exists()


# --- launchd ----------------------------------------------------------------------------------------------------------

DOCUMENTED = {  # launchd.plist(5)
    "Label": str, "ProgramArguments": list, "EnvironmentVariables": dict, "RunAtLoad": bool, "KeepAlive": dict,
    "ThrottleInterval": int, "ExitTimeOut": int, "ProcessType": str, "Umask": int, "HardResourceLimits": dict,
    "StandardErrorPath": str, "StandardOutPath": str,
}


def test_the_property_list_has_documented_keys_of_their_types(home: Path) -> None:
    made = job(["ssh://dev", "--deny", "local"], me(home))
    manager = Launchd(me(home))
    data = manager.text(made)
    found = plistlib.loads(data)
    assert {key: type(value) for key, value in found.items()} == DOCUMENTED
    assert found["Label"] == made.name
    assert tuple(found["ProgramArguments"]) == made.words
    assert found["EnvironmentVariables"]["PATH"] == "/bin"
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}
    assert manager.target(data) == "ssh://dev"
    assert manager.file(made.name) == home / "Library/LaunchAgents" / f"{made.name}.plist"
    for other in (b"", b"nonsense", plistlib.dumps({"Label": "x"}), plistlib.dumps([1])):
        assert manager.target(other) == ""


def test_on_macos_it_is_launchds(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run(["service", "install", "fluffy", "--now"]) == 0
    said = capsys.readouterr().err
    assert "there is no program launchctl" in said
    path = home / "Library/LaunchAgents/netbridge-fluffy.plist"
    assert f"  launchctl bootstrap gui/{os.geteuid()} {path}" in said
    assert run(["service", "install", "fluffy", "--all"]) == 0
    assert f"  launchctl bootout gui/{os.geteuid()}/netbridge-fluffy\n" in capsys.readouterr().err
    assert run(["service", "uninstall", "fluffy"]) == 0
    assert not path.exists()


def test_elsewhere_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert run(["service", "install", "fluffy"]) == 5
    assert "freebsd14" in capsys.readouterr().err
