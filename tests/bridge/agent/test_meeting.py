"""The holder's door: questions and answers between real processes and users, and whoever knocks with nonsense."""

from __future__ import annotations

import array
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.agent import meeting
from netbridge.bridge.agent.loop import READ, Loop
from netbridge.bridge.agent.meeting import (
    LONGEST,
    MOST_DESCRIPTORS,
    PREFIX,
    Door,
    NoAnswerError,
    NobodyThereError,
    ask,
    bridges,
    names,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")
SOURCES = str(Path(__file__).parents[3] / "src")
ALONE = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class House:
    """A door on a loop in a thread of its own."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.loop = Loop()
        self.asked: list[dict[str, Any]] = []
        self.came: list[int] = []
        """How many descriptors came with each request."""
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda request: {"you": request.get("ask")}
        self.door = Door(self.loop, self.name, self._asked)
        self._wake = os.pipe()
        self._quiet = threading.Event()
        self.loop.watch(self._wake[0], READ, self._woken)
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.failed = error

    def _woken(self, _events: int) -> None:
        if os.read(self._wake[0], 1) == b"x":
            self.loop.stop()
        self._quiet.set()

    def open_descriptors(self) -> int:
        """Of this process, while the door serves nobody."""
        self._quiet.clear()
        os.write(self._wake[1], b"?")
        assert self._quiet.wait(10)
        return open_descriptors()

    def _asked(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        self.asked.append(request)
        self.came.append(len(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        return self.answer(request)

    def close(self) -> None:
        os.write(self._wake[1], b"x")
        self._thread.join(10)
        self.door.close()
        self.loop.close()
        for descriptor in self._wake:
            os.close(descriptor)
        assert self.failed is None

    def knock(self, data: bytes, descriptors: list[int] = []) -> bytes:  # noqa: B006
        """Say something; what was answered, empty: the door was shut."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(10)
            connection.connect("\0" + PREFIX + self.name)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            connection.sendmsg([data], rights)
            try:
                return connection.recv(LONGEST)
            except ConnectionResetError:
                return b""


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_a_question_is_answered(house: House) -> None:
    assert ask(house.name, {"ask": "who"}, []) == {"you": "who"}
    assert house.asked == [{"ask": "who"}]


def test_descriptors_arrive_and_are_copies(house: House) -> None:
    here, there = socket.socketpair()
    with here, there:
        taken: list[int] = []

        def keep(request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
            taken.extend(descriptors)
            return {}

        house.door._asked = keep
        ask(house.name, {"ask": "resume"}, [there.fileno(), there.fileno()])
        there.close()
        os.write(taken[0], b"over there")
        assert here.recv(100) == b"over there"
        assert all(not os.get_inheritable(descriptor) for descriptor in taken)
        for descriptor in taken:
            os.close(descriptor)


def test_nobody_is_there() -> None:
    with pytest.raises(NobodyThereError):
        ask(secrets.token_hex(8), {"ask": "who"}, [])


@pytest.mark.parametrize("name", ["x" * 200, "a\0b", "\ud800", ""])
def test_a_name_that_is_none_is_nobody(name: str) -> None:
    with pytest.raises(NobodyThereError):
        ask(name, {"ask": "who"}, [])


def test_a_name_is_taken_once(house: House) -> None:
    before = open_descriptors()
    with pytest.raises(OSError, match="in use"):
        Door(house.loop, house.name, house._asked)
    assert open_descriptors() == before


def test_who_is_here_is_listed_and_asked(house: House) -> None:
    house.answer = lambda request: {"machine": {"name": "laptop"}, "attached": True}
    other = House()
    other.answer = lambda request: {"machine": None, "attached": False}
    try:
        assert {house.name, other.name} <= set(names())
        found = {bridge["session"]: bridge for bridge in bridges()}
        assert found[house.name] == {"session": house.name, "machine": {"name": "laptop"}, "attached": True}
        assert found[other.name]["attached"] is False
    finally:
        other.close()
    assert other.name not in names()


def test_who_waits_for_the_end_sees_it(house: House) -> None:
    house.answer = lambda request: {"ending": True}
    ended: list[dict[str, Any]] = []
    waiting = threading.Thread(
        target=lambda: ended.append(ask(house.name, {"ask": "end"}, [], until_gone=True))
    )
    waiting.start()
    while not house.asked:
        waiting.join(0.01)
    assert not ended
    house.door.close()
    waiting.join(10)
    assert ended == [{"ending": True}]


def test_one_that_hears_and_does_not_answer_is_told_from_one_that_is_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was just woken up holds the bridge still: the next try may come through."""
    monkeypatch.setattr(meeting, "PATIENCE", 0.2)
    wait = threading.Event()

    def busy(request: dict[str, Any]) -> dict[str, Any]:
        wait.wait(10)
        return {}

    house.answer = busy
    with pytest.raises(NoAnswerError):
        ask(house.name, {"ask": "resume"}, [])
    wait.set()


GARBAGE = [
    b"", b"\0", b"{", b"nonsense", b"[]x", b"1", b"null", b'"text"', b"[1]", b"[[[1], 2]]", b"\xff\xfe", b"[" * 16000,
    b'{"a":' * 3000, b'{"ask": ' + b"9" * 10000 + b"}", b"{}" * 9000, b'{"ask": "' + b"x" * 60000 + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=[repr(data[:12]) for data in GARBAGE])
@pytest.mark.parametrize("count", [0, 1, 3, MOST_DESCRIPTORS, 50])
def test_nonsense_is_shut_out_with_whatever_it_brings(house: House, data: bytes, count: int) -> None:
    with open(os.devnull, "rb") as null:
        house.knock(b"{}", [null.fileno()])
        house.asked.clear()
        before = house.open_descriptors()
        for _ in range(3):
            assert house.knock(data, [null.fileno()] * count) == b""
        assert house.asked == []
        assert ask(house.name, {"ask": "who"}, []) == {"you": "who"}
        assert house.open_descriptors() == before


@pytest.mark.parametrize("count", [MOST_DESCRIPTORS + 1, 30, 253])
def test_more_descriptors_than_anybody_needs_are_not_taken(house: House, count: int) -> None:
    with open(os.devnull, "rb") as null:
        house.knock(b"{}", [null.fileno()])
        before = house.open_descriptors()
        house.answer = lambda request: {}
        assert house.knock(b"{}", [null.fileno()] * count) == b"{}"
        assert house.came[-1] <= MOST_DESCRIPTORS
        assert house.open_descriptors() == before


def test_one_that_hangs_up_at_once_harms_nobody(house: House) -> None:
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect("\0" + PREFIX + house.name)
    assert ask(house.name, {"ask": "who"}, []) == {"you": "who"}


def test_an_answer_nobody_waits_for_harms_nobody(house: House) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect("\0" + PREFIX + house.name)
        connection.send(b'{"ask": "who"}')
    assert ask(house.name, {"ask": "who"}, []) == {"you": "who"}


@pytest.mark.parametrize("answer", [b"nonsense", b"[]", b"1", b"", b"[" * 16000])
def test_an_answer_that_is_none_is_nobody(answer: bytes) -> None:
    name = secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0" + PREFIX + name)
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(LONGEST)
                connection.send(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            with pytest.raises(NobodyThereError):
                ask(name, {"ask": "who"}, [])
        finally:
            serving.join(10)


# Another user.

LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\\0" + sys.argv[1])
listener.listen()
print("here", flush=True)
connection, _ = listener.accept()
print(repr(connection.recvmsg(1000, 1000)[:2]), flush=True)
"""

KNOCK = """
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.settimeout(10)
connection.connect("\\0" + sys.argv[1])
try:
    socket.send_fds(connection, [json.dumps({"ask": "end"}).encode()], [0, 1])
    print(repr(connection.recv(1000)))
except (BrokenPipeError, ConnectionResetError):
    print(repr(b""))
"""


@as_root
def test_a_holder_of_another_user_is_asked_nothing() -> None:
    """It would be given our connection."""
    name = secrets.token_hex(8)
    words = [*ALONE, sys.executable, "-c", LISTEN, PREFIX + name]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/") as theirs:
        assert theirs.stdout
        assert theirs.stdout.readline() == "here\n"
        with pytest.raises(NobodyThereError, match="another user"):
            ask(name, {"ask": "resume", "secret": "s"}, [0])
        assert theirs.stdout.readline() == "(b'', [])\n"
        assert theirs.wait(10) == 0


@as_root
def test_another_user_is_not_heard(house: House) -> None:
    house.answer = lambda request: {"ending": True}
    words = [*ALONE, sys.executable, "-c", KNOCK, PREFIX + house.name]
    before = house.open_descriptors()
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/", timeout=20)
    assert told.stdout == "b''\n"
    assert house.asked == []
    assert ask(house.name, {"ask": "who"}, []) == {"ending": True}
    assert house.open_descriptors() == before + 1  # of the one that waits for the end
    assert json.loads(house.knock(b'{"ask": "who"}')) == {"ending": True}
