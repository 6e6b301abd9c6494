"""`netbridge list`, the dialog without a TARGET, and `-c`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.errors import BridgeError
from netbridge.bridge.transport.gh_codespace import Codespace, parse_list
from netbridge.cli.choose import pick
from netbridge.cli.codespaces import HEAD, age, table
from netbridge.cli.program import run

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `tests` is no installed package

from tests.world.gh import NAMES, StandIn, codespace

from .program import Machine

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 10, 12, 0, tzinfo=UTC)


def listed(*items: dict[str, Any]) -> list[Codespace]:
    return parse_list(json.dumps(items).encode())


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)
    return made


# --- the table --------------------------------------------------------------------------------------------------------


def test_running_ones_stand_first_then_the_last_used() -> None:
    found = listed(
        codespace("old", "Shutdown", lastUsedAt="2026-10-10T10:00:00Z"),
        codespace("new", "Shutdown", lastUsedAt="2026-11-10T10:00:00Z"),
        codespace("runs", lastUsedAt="2026-09-10T10:00:00Z"),
    )
    assert [it.name for it in found] == ["runs", "new", "old"]


def test_a_table_for_people() -> None:
    changed = {"ref": "main", "hasUncommittedChanges": True, "hasUnpushedChanges": False}
    found = listed(codespace(NAMES[0]), codespace("plain", "Shutdown", displayName="", gitStatus=changed))
    assert table(found, 100, numbered=True, now=NOW) == [
        "   name          repository  branch     state      last used",
        "1) fluffy robot  mona/app    feature/x  Available  2 hours ago",
        "2) plain         mona/app    main*      Shutdown   2 hours ago",
    ]
    assert table([], 100, numbered=True, now=NOW) == []


def test_twins_are_told_apart_by_their_names() -> None:
    found = listed(codespace("a-1", displayName="a"), codespace("a-2", displayName="a"))
    twins = table(found, 80, numbered=False, now=NOW)
    assert [line.split()[0] for line in twins[1:]] == ["a-1", "a-2"]


@pytest.mark.parametrize("width", [200, 80, 64])
def test_a_table_is_as_wide_as_the_terminal(width: int) -> None:
    item = codespace("n" * 90, repository="r" * 90, gitStatus={"ref": "b" * 90})
    lines = table(listed(item, item), width, numbered=True, now=NOW)
    assert max(map(len, lines)) <= width
    assert all(word in lines[0] for word in HEAD)
    assert "…" in lines[1]


def test_no_text_of_the_table_reaches_the_terminal_as_it_came() -> None:
    evil = "\x1b[2J\x1b]0;title\x07\u202e\r\n\ud800x"
    item = codespace(evil, evil, displayName=evil, repository=evil, gitStatus={"ref": evil}, lastUsedAt=evil)
    for line in table(listed(item), 300, numbered=False, now=NOW):
        assert line.isprintable()


@pytest.mark.parametrize(("seconds", "said"), [
    (5, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"), (90000, "1 day ago"), (-100, "just now"),
])
def test_ages(seconds: int, said: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said
    assert age("yesterday", NOW) == "yesterday"


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_list_as_json(gh: StandIn, capsys: Capture) -> None:
    assert run(["list", "--json"]) == 0
    said = capsys.readouterr()
    first, *others = json.loads(said.out)["codespaces"]
    assert said.err == ""
    assert len(others) == 2
    assert first == {
        "name": NAMES[0], "display_name": "fluffy robot", "owner": "mona", "repository": "mona/app",
        "branch": "feature/x", "state": "Available", "created_at": "2026-11-01T10:00:00Z",
        "last_used_at": "2026-11-10T10:00:00Z", "machine": "basicLinux32gb",
    }


def test_a_list_for_people_is_no_output_for_machines(gh: StandIn, capsys: Capture) -> None:
    gh.tell(codespaces=[])
    assert run(["list"]) == 0
    assert capsys.readouterr() == ("", "There is no codespace.\n")


@pytest.mark.parametrize(("told", "code"), [
    ({"logged_in": False}, 4), ({"version": "2.0.0"}, 5), ({"fails": "dial tcp: no such host"}, 3),
])
def test_exit_codes(gh: StandIn, capsys: Capture, told: dict[str, Any], code: int) -> None:
    gh.tell(**told)
    assert run(["list", "--json"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("netbridge: ")
    assert said.err.count("\n") == 1


# --- the dialog -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "name"), [
    ("", NAMES[0]), ("2", NAMES[1]), ("shiny to", NAMES[2]), (NAMES[2], NAMES[2]), ("7", "7-seas"),
])
def test_what_an_answer_means(answer: str, name: str) -> None:
    found = listed(codespace(NAMES[0]), codespace(NAMES[1]), codespace(NAMES[2]), codespace("7-seas"))
    assert pick(found, answer).name == name


@pytest.mark.parametrize("answer", ["0", "5", "-1", "²", "99999999999999999999", "shiny", "nothing"])
def test_an_answer_that_means_nothing(answer: str) -> None:
    with pytest.raises(BridgeError):
        pick(listed(codespace(NAMES[0]), codespace(NAMES[1]), codespace(NAMES[2])), answer)


@pytest.fixture
def machine(tmp_path: Path, gh: StandIn) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        assert machine.pids() == [], "a process was left behind"


@pytest.mark.net
def test_the_dialog(machine: Machine, gh: StandIn) -> None:
    """The second one is chosen, at the second try; it is the one that is started then."""
    gh.tell(start_fails=True)
    with machine.running("up", terminal=True) as program:
        shown = program.until(b"q: none)").decode()
        assert [line.split()[:2] for line in shown.splitlines()[1:4]] == [
            ["1)", "fluffy"], ["2)", "shiny"], ["3)", "shiny"],
        ]  # fmt: skip
        program.type(b"shiny\n")
        program.until(b"Several codespaces are called shiny.")
        program.type(b"2\n")
        program.until(b"starting the codespace shiny train")
        assert program.ended() == 4
        assert b"HTTP 402: Payment Required" in program.said
    assert gh.calls[-1]["words"][-2:] == ["-c", NAMES[1]] or gh.calls[-2]["words"][-2:] == ["-c", NAMES[1]]


@pytest.mark.net
@pytest.mark.parametrize(("keys", "code"), [(b"q\n", 2), (b"\x03", 0), (b"\x04", 2)])
def test_who_wants_none_is_left_alone(machine: Machine, gh: StandIn, keys: bytes, code: int) -> None:
    with machine.running("up", terminal=True) as program:
        program.until(b"q: none)")
        program.type(keys)
        assert program.ended() == code
        assert program.terminal_settings() == program.settings
    assert not any("ssh" in call["words"] for call in gh.calls)


@pytest.mark.net
def test_without_a_terminal_nobody_is_asked(machine: Machine, gh: StandIn) -> None:
    done = machine.netbridge("up")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no terminal" in done.stderr
    assert gh.calls == []
