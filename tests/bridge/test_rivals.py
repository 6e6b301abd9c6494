"""Which bridges of others are in the way, from what an untrusted target says of them."""

from __future__ import annotations

from typing import Any

import pytest

from netbridge.bridge.errors import BridgeError
from netbridge.bridge.rivals import to_replace

OURS = {"id": "this", "name": "laptop", "user": "somebody"}
THEIRS = {"id": "that", "name": "desktop", "user": "eve"}


def decide(bridges: object, *, living: tuple[str, ...] = (), take_over: bool = False) -> list[str]:
    return to_replace(bridges, machine="this", living=living, take_over=take_over, target="dev")


def bridge(session: str, machine: object, *, attached: bool = True) -> dict[str, Any]:
    return {"session": session, "machine": machine, "attached": attached}


def test_nobody_is_there() -> None:
    assert decide([]) == []


def test_what_this_machine_left_there_gives_way() -> None:
    assert decide([bridge("a", OURS, attached=False), bridge("b", OURS)]) == ["a", "b"]


@pytest.mark.parametrize("take_over", [False, True])
def test_a_bridge_of_this_machine_that_lives_is_named(take_over: bool) -> None:
    with pytest.raises(BridgeError, match="This machine bridges dev already") as caught:
        decide([bridge("a", OURS)], living=("a",), take_over=take_over)
    assert "netbridge down" in caught.value.todo


def test_another_machines_is_ended_only_when_that_was_said() -> None:
    with pytest.raises(BridgeError) as caught:
        decide([bridge("a", OURS), bridge("b", THEIRS)])
    assert caught.value.what == "dev is bridged by eve at desktop already."
    assert "--take-over" in caught.value.todo
    assert decide([bridge("a", OURS), bridge("b", THEIRS)], take_over=True) == ["a", "b"]


def test_whether_its_connection_stands_is_told() -> None:
    with pytest.raises(BridgeError, match=r"\(its connection is down at present\)"):
        decide([bridge("b", THEIRS, attached=False)])


@pytest.mark.parametrize("machine", [None, "text", [], {}, {"id": None}, {"id": ["this"]}, {"name": "x" * 10000}])
def test_a_machine_nobody_knows_is_another_one(machine: object) -> None:
    with pytest.raises(BridgeError) as caught:
        decide([bridge("b", machine)])
    assert len(str(caught.value)) < 2000


def test_their_words_cannot_write_to_the_terminal() -> None:
    with pytest.raises(BridgeError) as caught:
        decide([bridge("b", {"id": "that", "name": "\x1b[2Jdesk", "user": "e\nve"})])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("bridges", [
    None, "text", 7, {"session": "a"}, [None], ["a"], [[]], [{}], [{"session": 7}],
    [{"session": None, "machine": OURS}],
])
def test_nonsense_is_nobody(bridges: object) -> None:
    assert decide(bridges) == []
