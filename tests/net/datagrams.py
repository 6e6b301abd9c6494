"""Sockets and raw packets of the tests about UDP and IP."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netbridge.bridge.forward.hostsocket import (
    IP_MTU,
    IP_MTU_DISCOVER,
    IP_RECVERR,
    IPV6_MTU,
    IPV6_MTU_DISCOVER,
    IPV6_RECVERR,
    MSG_ERRQUEUE,
    HostError,
    parse_extended_error,
)
from tests.world import Machine
from tests.world.addresses import CORP

from .conftest import Through

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
IP = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
RECVERR = {4: IP_RECVERR, 6: IPV6_RECVERR}
MTU_DISCOVER = {4: IP_MTU_DISCOVER, 6: IPV6_MTU_DISCOVER}
MTU = {4: IP_MTU, 6: IPV6_MTU}
ETHERTYPE = {4: 0x0800, 6: 0x86DD}

Address = tuple[str, int]


def client(through: Through, version: int) -> socket.socket:
    """An unbound UDP socket in the codespace."""
    made = through.inside(lambda: socket.socket(FAMILY[version], socket.SOCK_DGRAM))
    made.settimeout(3)
    return made


@contextmanager
def serving(machine: Machine, *addresses: str) -> Iterator[list[socket.socket]]:
    """Bound UDP sockets on `machine`, one for each address."""
    made = [machine.udp(address) for address in addresses]
    try:
        for sock in made:
            sock.settimeout(3)
        yield made
    finally:
        for sock in made:
            sock.close()


def where(sock: socket.socket) -> Address:
    """Its address and port."""
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def peer_seen(sender: socket.socket, server: socket.socket, payload: bytes = b"who am I?") -> Address:
    """Send from an unconnected socket to a server; whom the server sees."""
    sender.sendto(payload, where(server))
    received, peer = server.recvfrom(65536)
    assert received == payload
    return peer[0], peer[1]


def hears_nothing(sock: socket.socket, seconds: float = 0.2) -> bool:
    """No datagram is there, and none comes."""
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(before)
    return False


def error_of(sock: socket.socket, version: int) -> tuple[HostError, Address]:
    """Wait for an entry of the error queue: what it says, and where the failed packet was to go."""
    with suppress(OSError):  # the wait ends with the error itself on a connected socket
        sock.recv(1)
    data, ancillary, _flags, target = sock.recvmsg(2000, 512, MSG_ERRQUEUE)
    for level, kind, value in ancillary:
        if (level, kind) == (IP[version], RECVERR[version]):
            error = parse_extended_error(value, data)
            assert error is not None
            return error, target[:2]
    raise AssertionError(f"no extended error in {ancillary}")


def own_address(through: Through, version: int) -> str:
    """The codespace's address on the bridge."""
    with client(through, version) as sock:
        sock.connect((CORP[version], 9))
        return where(sock)[0]


def inject(through: Through, version: int, *packets: bytes) -> None:
    """Hand whole IP packets to the bridge's device, as they are: the kernel looks at nothing."""
    words = through.run("ip", "route", "get", CORP[version]).check().stdout.split()
    device = words[words.index("dev") + 1]

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            for packet in packets:
                raw.sendto(packet, (device, ETHERTYPE[version]))

    through.inside(send)


def ancillary_number(sock: socket.socket, kind: int) -> int:
    """Receive one datagram; the number in its control message of this kind."""
    _data, ancillary, _flags, _peer = sock.recvmsg(65536, 512)
    values = {found: value for _level, found, value in ancillary}
    return int(struct.unpack("=i", values[kind][:4].ljust(4, b"\0"))[0])
