"""The agent's half of the way back, with a listener of the test's in the place of the service on the stack."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.agent import authsocket
from netbridge.bridge.agent.back import Back
from netbridge.bridge.agent.loop import Loop

SECRET = "0123456789abcdef"


class There:
    """The agent's loop in a thread, and where its connections come to."""

    def __init__(self, **wanted: Any) -> None:
        self.home = socket.create_server(("127.0.0.1", 0))
        self.home.settimeout(5)
        self.loop = Loop()
        self._orders: list[dict[str, Any]] = []
        port = self.home.getsockname()[1]
        self.back = Back(self.loop, {"gateways": ["127.0.0.1"], "port": port, "secret": SECRET, "most": 8, **wanted})
        self._tick()
        self.loop.call_later(30, self.loop.stop)
        self._thread = threading.Thread(target=self.loop.run)
        self._thread.start()

    def _tick(self) -> None:
        while self._orders:
            self.back.control(self._orders.pop(0))
        self.loop.call_later(0.005, self._tick)

    def dial(self, number: int, host: str, port: int) -> None:
        self._orders.append({"type": "dial", "number": number, "host": host, "port": port})

    def hang_up(self, number: int) -> None:
        self._orders.append({"type": "hang_up", "number": number})

    def come(self) -> tuple[dict[str, Any], socket.socket]:
        """The next connection home, and what its first line says."""
        connection, _ = self.home.accept()
        connection.settimeout(5)
        line = b""
        while not line.endswith(b"\n"):
            data = connection.recv(1)
            assert data
            line += data
        message = json.loads(line)
        assert message.pop("secret") == SECRET
        return message, connection

    def close(self) -> None:
        self.loop.call_later(0, self.loop.stop)
        self._thread.join(10)
        self.back.close()
        self.loop.close()
        self.home.close()


@pytest.fixture
def there() -> Iterator[There]:
    made = There()
    yield made
    made.close()


@pytest.fixture
def place() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_place_is_connected_and_carried(there: There, place: socket.socket, host: str) -> None:
    there.dial(7, host, place.getsockname()[1])
    message, home = there.come()
    assert message == {"for": 7}
    server, _ = place.accept()
    with server, home:
        server.sendall(b"greeting")
        assert home.recv(100) == b"greeting"
        home.sendall(b"question")
        home.shutdown(socket.SHUT_WR)
        server.settimeout(5)
        assert server.recv(100) == b"question"
        assert server.recv(100) == b""
        server.sendall(b"answer")
        assert home.recv(100) == b"answer"


def test_errors_have_the_kernels_words(there: There, place: socket.socket) -> None:
    port = place.getsockname()[1]
    place.close()
    for number, host, code, text in (
        (1, "127.0.0.1", "ECONNREFUSED", "Connection refused"),
        (2, "nowhere.invalid", "EAI_", ""),
        (3, "255.255.255.255", "", ""),
        (4, "a..b", "EAI_NONAME", ""),
    ):
        there.dial(number, host, port)
        message, home = there.come()
        assert message["for"] == number
        assert message["code"].startswith(code)
        assert text in message["error"]
        assert message["error"]
        assert home.recv(1) == b""
        home.close()


def test_a_repeated_message_is_taken_up_once(there: There, place: socket.socket) -> None:
    for number in (1, 1, 2):
        there.dial(number, "127.0.0.1", place.getsockname()[1])
    found = [there.come(), there.come()]
    assert sorted(message["for"] for message, _ in found) == [1, 2]
    there.home.settimeout(0.2)
    with pytest.raises(TimeoutError):
        there.home.accept()
    for _, home in found:
        home.close()


def test_what_did_not_come_home_is_taken_up_again(there: There, place: socket.socket) -> None:
    address = there.home.getsockname()
    there.home.close()
    there.dial(1, "127.0.0.1", place.getsockname()[1])
    server, _ = place.accept()
    server.settimeout(5)
    assert server.recv(1) == b""  # nobody is there for it
    server.close()
    there.home = socket.create_server(address)
    there.home.settimeout(5)
    there.dial(1, "127.0.0.1", place.getsockname()[1])
    message, home = there.come()
    assert message == {"for": 1}
    home.close()


def test_hung_up_on_it_lets_go(place: socket.socket) -> None:
    """A place that is silent takes two minutes, and its place is wanted."""
    there = There(most=1)
    with socket.socket() as silent:  # a listener whose backlog is full answers no SYN
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(silent.getsockname())
        there.dial(1, "127.0.0.1", silent.getsockname()[1])
        there.hang_up(1)
        there.hang_up(99)
        there.dial(2, "127.0.0.1", place.getsockname()[1])
        message, home = there.come()
        assert message == {"for": 2}
        home.close()
        for caller in callers:
            caller.close()
    place.accept()[0].close()
    there.close()


def test_not_too_many(place: socket.socket) -> None:
    there = There(most=1)
    there.dial(1, "127.0.0.1", place.getsockname()[1])
    _, first = there.come()
    there.dial(2, "127.0.0.1", place.getsockname()[1])
    message, second = there.come()
    assert (message["for"], message["code"]) == (2, "EMFILE")
    first.close()
    second.close()
    place.accept()[0].close()
    there.close()


def test_resets_pass(there: There, place: socket.socket) -> None:
    there.dial(1, "127.0.0.1", place.getsockname()[1])
    _, home = there.come()
    server, _ = place.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()
    with home, pytest.raises(ConnectionResetError):
        home.recv(1)


@pytest.mark.parametrize("message", [
    {}, {"number": 1, "host": "x"}, {"number": "x", "host": "x", "port": 1}, {"number": 1, "host": "x", "port": None},
])
def test_nonsense_is_the_callers_to_answer(there: There, message: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        there.back.control({"type": "dial", **message})


def test_the_ssh_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authsocket, "FOLDER", str(tmp_path / "ssh-%d"))
    there = There(agent=True)
    try:
        path = there.back.told["ssh_agent"]
        assert path == str(tmp_path / f"ssh-{authsocket.login_user()[0]}/agent.sock")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(path)
                client.sendall(b"sign this")
                message, home = there.come()
                with home:
                    assert message == {"for": "agent"}
                    assert home.recv(100) == b"sign this"
                    home.sendall(b"signature")
                    assert client.recv(100) == b"signature"
        second = Back(there.loop, {"gateways": ["127.0.0.1"], "port": 1, "secret": "x", "most": 8, "agent": True})
        assert "another bridge serves" in second.told["ssh_agent_reason"]
        second.close()
    finally:
        there.close()
    assert not (tmp_path / "ssh-0").exists()


def test_an_ssh_agent_whose_bridge_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sees an end, and does not wait for ever."""
    monkeypatch.setattr(authsocket, "FOLDER", str(tmp_path / "ssh-%d"))
    there = There(agent=True, most=0)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(there.back.told["ssh_agent"])
            assert client.recv(1) == b""
    finally:
        there.close()


def test_the_end_resets_everything(there: There, place: socket.socket) -> None:
    there.dial(1, "127.0.0.1", place.getsockname()[1])
    _, home = there.come()
    server, _ = place.accept()
    server.settimeout(5)
    there.loop.call_later(0, there.back.close)
    deadline = time.monotonic() + 5
    for connection in (home, server):
        with connection, pytest.raises(ConnectionResetError):
            while time.monotonic() < deadline:
                assert connection.recv(1)
