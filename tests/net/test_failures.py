"""Failures look as they do on the laptop: refused, unreachable, silent; and half-closes are kept apart from closes."""

from __future__ import annotations

import errno
import socket
import threading
import time

import pytest

from tests.world import World
from tests.world.addresses import CORP, ECHO_PORT, HTTP_PORT, PROHIBITED, SILENT, UNREACHABLE
from tests.world.machine import wait_until

from .conftest import CONTROL, Through

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@both
def test_unreachable_host(through: Through, version: int) -> None:
    begun = time.monotonic()
    with pytest.raises(OSError) as caught:
        through.connect(UNREACHABLE[version], 80)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert time.monotonic() - begun < 2


@both
def test_prohibited_host(through: Through, version: int) -> None:
    """ICMP 3/13 is EHOSTUNREACH to Linux, ICMPv6 1/1 is EACCES."""
    begun = time.monotonic()
    with pytest.raises(OSError) as caught:
        through.connect(PROHIBITED[version], 80)
    expected = errno.EACCES if version == 6 or through.transport == CONTROL else errno.EHOSTUNREACH
    assert caught.value.errno == expected
    assert time.monotonic() - begun < 2


@both
def test_silent_host_becomes_unreachable(through: Through, version: int) -> None:
    """The laptop's kernel gives address resolution up after three seconds, and so does the codespace's connect."""
    begun = time.monotonic()
    with pytest.raises(OSError) as caught:
        through.connect(SILENT[version], 80, timeout=10)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert 0.5 < time.monotonic() - begun < 8


@both
def test_nc_half_closes_first(through: Through, world: World, version: int) -> None:
    """The question's end reaches the server, and its whole answer comes back long after."""
    answer = b"answer " * 200_000
    seen: list[bytes] = []
    with world.corp.listen(CORP[version]) as listener:

        def serve() -> None:
            connection, _peer = listener.accept()
            with connection:
                connection.settimeout(10)
                while data := connection.recv(65536):
                    seen.append(data)
                time.sleep(1.0)  # the flow is half-closed and idle
                connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        output = through.run("sh", "-c", f"printf question | nc -N {CORP[version]} {port}", timeout=20).check()
        server.join(10)
    assert b"".join(seen) == b"question"
    assert output.stdout.encode() == answer


@both
def test_server_half_closes_first(through: Through, world: World, version: int) -> None:
    port, got = 9100 + version, world.corp.folder / "got"
    server = world.corp.start("sh", "-c", f"printf greeting | nc -N -l {CORP[version]} {port} > {got}")
    wait_until(lambda: world.corp.listens(port), "nc")
    data = bytes(range(256)) * 4000
    with through.connect(CORP[version], port) as client:
        received = b""
        while more := client.recv(4096):
            received += more
        assert received == b"greeting"
        time.sleep(0.5)
        client.sendall(data)
    assert server.wait(10) == 0
    assert got.read_bytes() == data


def test_reset_by_the_server_arrives_as_reset(through: Through, world: World) -> None:
    with world.corp.listen(CORP[4]) as listener:
        with through.connect(CORP[4], listener.getsockname()[1]) as client:
            connection, _peer = listener.accept()
            client.sendall(b"x")
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_reset_by_the_client_arrives_as_reset(through: Through, world: World) -> None:
    with world.corp.listen(CORP[4]) as listener:
        client = through.connect(CORP[4], listener.getsockname()[1])
        connection, _peer = listener.accept()
        with connection:
            connection.settimeout(5)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_stalled_reader_stops_the_sender(through: Through, world: World) -> None:
    """Nobody reads: the sender blocks after a bounded number of bytes, and goes on when somebody does."""
    with world.corp.listen(CORP[4]) as listener:
        with through.connect(CORP[4], listener.getsockname()[1]) as client:
            connection, _peer = listener.accept()
            with connection:
                client.setblocking(False)
                sent, quiet = 0, 0
                while quiet < 10 and sent < 400_000_000:
                    try:
                        sent += client.send(bytes(65536))
                        quiet = 0
                    except BlockingIOError:
                        quiet += 1
                        time.sleep(0.05)
                assert sent < 100_000_000
                client.settimeout(10)
                client.shutdown(socket.SHUT_WR)
                connection.settimeout(10)
                received = 0
                while data := connection.recv(1 << 20):
                    received += len(data)
                assert received == sent


@both
@pytest.mark.parametrize("size", [0, 1, 1400, 8000, 60000])
def test_udp_echo(through: Through, version: int, size: int) -> None:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with through.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(3)
        client.connect((CORP[version], ECHO_PORT))
        data = bytes(number & 0xFF for number in range(size))
        client.send(data)
        assert client.recv(65536) == data


def test_hundred_connections_at_once(through: Through) -> None:
    clients = [through.connect(CORP[4], HTTP_PORT) for _number in range(100)]
    try:
        for client in clients:
            client.sendall(b"GET /small HTTP/1.0\r\n\r\n")
        for client in clients:
            received = b""
            while data := client.recv(4096):
                received += data
            assert received.endswith(b"netbridge\n")
    finally:
        for client in clients:
            client.close()
