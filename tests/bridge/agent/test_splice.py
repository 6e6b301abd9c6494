"""Two sockets that feed each other in the agent's loop: bytes, half-closes, resets, slow readers."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from netbridge.bridge.agent.loop import Loop
from netbridge.bridge.agent.splice import CHUNK, NO_LINGER, Splice


class Spliced:
    """left — splice — right over TCP, and the loop in a thread."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.left, one = tcp_pair()
        self.right, other = tcp_pair()
        self.over: list[Splice] = []
        self.splice = Splice(self.loop, one, other, self.over.append)
        self.loop.call_later(15, self.loop.stop)
        self._tick()  # so that what another thread wants is seen
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()
        for outer in (self.left, self.right):
            outer.settimeout(5)

    def _tick(self) -> None:
        self.loop.call_later(0.005, self._tick)

    def wait_over(self) -> None:
        deadline = time.monotonic() + 5
        while not self.over and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.over == [self.splice]

    def close(self) -> None:
        self.loop.call_later(0, self.loop.stop)
        self._thread.join(20)
        if not self.over:
            self.splice.abort()
        self.loop.close()
        self.left.close()
        self.right.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    server.setblocking(False)
    return client, server


@pytest.fixture
def spliced() -> Iterator[Spliced]:
    made = Spliced()
    yield made
    made.close()


def read_all(connection: socket.socket) -> bytes:
    found = bytearray()
    while data := connection.recv(1 << 20):
        found += data
    return bytes(found)


def test_bytes_and_half_closes_pass(spliced: Spliced) -> None:
    spliced.left.sendall(b"question")
    spliced.left.shutdown(socket.SHUT_WR)
    assert read_all(spliced.right) == b"question"
    spliced.right.sendall(b"answer")
    spliced.right.shutdown(socket.SHUT_WR)
    assert read_all(spliced.left) == b"answer"
    spliced.wait_over()


def test_much_both_ways_at_once(spliced: Spliced) -> None:
    data = bytes(range(256)) * (64 * 1024)
    got: dict[str, bytes] = {}

    def send(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    def receive(name: str, connection: socket.socket) -> None:
        got[name] = read_all(connection)

    threads = [threading.Thread(target=send, args=(it,)) for it in (spliced.left, spliced.right)]
    threads += [threading.Thread(target=receive, args=it) for it in (("l", spliced.left), ("r", spliced.right))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == {"l": data, "r": data}
    spliced.wait_over()


def test_a_reader_that_does_not_read_stops_the_writer(spliced: Spliced) -> None:
    spliced.left.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += spliced.left.send(bytes(1 << 20))
    assert max(len(end.out) for end in spliced.splice._ends) <= CHUNK
    got = 0
    while got < sent:
        got += len(spliced.right.recv(1 << 20))
    assert got == sent


def test_a_reset_is_passed_on(spliced: Spliced) -> None:
    spliced.left.sendall(b"half")
    assert spliced.right.recv(4) == b"half"
    spliced.left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    spliced.left.close()
    with pytest.raises(ConnectionResetError):
        spliced.right.recv(1)
    spliced.wait_over()


def test_a_reset_is_passed_on_while_the_other_does_not_read(spliced: Spliced) -> None:
    """Then nothing is read from the one that resets, and only the error can tell."""
    spliced.left.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            spliced.left.send(bytes(1 << 20))
    spliced.left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    spliced.left.close()
    spliced.wait_over()


def test_a_hangup_that_stays_costs_nothing(spliced: Spliced, monkeypatch: pytest.MonkeyPatch) -> None:
    """left has closed both ways and right has not read it yet: the kernel would tell that again and again."""
    calls = 0
    ready = spliced.splice._ready

    def counted(end: object, events: int) -> None:
        nonlocal calls
        calls += 1
        ready(end, events)  # type: ignore[arg-type]

    monkeypatch.setattr(spliced.splice, "_ready", counted)
    spliced.right.shutdown(socket.SHUT_WR)
    spliced.left.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            spliced.left.send(bytes(1 << 20))
    assert spliced.left.recv(1) == b""
    spliced.left.close()
    time.sleep(0.1)
    before = calls
    time.sleep(0.3)
    assert calls - before <= 3
    while spliced.right.recv(1 << 20):
        pass
    spliced.wait_over()


def test_abort_resets_both(spliced: Spliced) -> None:
    spliced.loop.call_later(0, spliced.splice.abort)
    for outer in (spliced.left, spliced.right):
        with pytest.raises(OSError) as told:
            outer.recv(1)
        assert told.value.errno == errno.ECONNRESET
    assert spliced.over == []
