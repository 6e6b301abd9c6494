"""The sockets of a network namespace as proc lists them, who has them, and the end of one from outside."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from netbridge.bridge.agent import sockets as module
from netbridge.bridge.agent.sockdiag import destroy
from netbridge.bridge.agent.sockets import ESTABLISHED, Socket, open_connections, owned, processes, sockets

pytestmark = pytest.mark.net

OWN, OTHER = {4: "10.7.0.1", 6: "fd07::1"}, {4: "10.7.0.2", 6: "fd07::2"}


@pytest.fixture(autouse=True)
def of_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TABLES", "/proc/thread-self/net/")


def place() -> None:
    """Loopback with addresses that do not look like it."""
    lines = ["link set lo up"]
    for own in (OWN, OTHER):
        lines += [f"addr add {own[4]}/24 dev lo", f"addr add {own[6]}/64 dev lo nodad"]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
    # The kernel makes an IPv6 address's own route in a worker of its own, a moment after `ip` has ended.
    deadline = time.monotonic() + 10
    while not all(way_to(each[6]).startswith("local ") for each in (OWN, OTHER)):
        assert time.monotonic() < deadline


def way_to(address: str) -> str:
    return subprocess.run(["ip", "route", "get", address], capture_output=True, text=True).stdout


def connected(version: int) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.create_server((OTHER[version], 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2], 5, (OWN[version], 0))
        return client, listener.accept()[0]


def the(client: socket.socket) -> Socket:
    (found,) = [
        each for each in sockets()
        if (str(each.local), each.local_port) == client.getsockname()[:2]
        and (str(each.remote), each.remote_port) == client.getpeername()[:2]
    ]
    return found


@pytest.mark.parametrize("version", [4, 6])
def test_found_and_whose_they_are(in_network: Callable[..., Any], version: int) -> None:
    def told() -> None:
        place()
        client, server = connected(version)
        with client, server:
            found = the(client)
            assert found.state == ESTABLISHED
            assert found.inode == os.fstat(client.fileno()).st_ino
            assert found.inode in owned(os.getpid())
            assert os.getpid() in processes()
            assert set(open_connections()) == {OWN[version], OTHER[version]}
            assert open_connections([found.local]) == [OWN[version]]
            assert open_connections(limit=0) == []

    in_network(told)


def test_a_connected_datagram_socket_counts(in_network: Callable[..., Any]) -> None:
    def told() -> None:
        place()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
            mouth.connect((OTHER[4], 9))
            assert open_connections() == [OTHER[4]]
            assert [each for each in sockets("tcp", "tcp6") if each.remote_port == 9] == []

    in_network(told)


@pytest.mark.parametrize("version", [4, 6])
def test_ended_from_outside(in_network: Callable[..., Any], version: int) -> None:
    def told() -> None:
        place()
        client, server = connected(version)
        with client, server:
            each = the(client)
            try:
                destroy(each)
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    pytest.skip("this kernel ends no sockets (CONFIG_INET_DIAG_DESTROY)")
                raise
            with pytest.raises(ConnectionAbortedError):
                client.recv(1)
            with pytest.raises(OSError, match="SOCK_DESTROY"):  # it is gone
                destroy(each)

    in_network(told)


def test_nothing_is_known_of_a_process_that_is_not_there() -> None:
    assert owned(2**22 + 1) == set()
