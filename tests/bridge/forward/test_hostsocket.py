"""Host sockets: the error queue's entries and what comes before connect."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.forward.hostsocket import (
    ORIGIN_ICMP,
    ORIGIN_ICMP6,
    ORIGIN_LOCAL,
    HostError,
    connect,
    open_udp,
    parse_extended_error,
    path_mtu,
    read_error,
    set_option,
)
from netbridge.stack.icmp.wire import Problem
from tests.bridge.forward.fakes import HOST, needs_ipv6, packed


def entry(errno: int, origin: int, kind: int, code: int, info: int, offender: bytes = b"") -> bytes:
    return struct.pack("=IBBBBII", errno, origin, kind, code, 0, info, 0) + offender


def test_an_entry_of_ipv4() -> None:
    offender = struct.pack("=H", socket.AF_INET) + b"\0\0" + packed("10.0.0.9") + bytes(8)
    error = parse_extended_error(entry(90, ORIGIN_ICMP, 3, 4, 1300, offender), b"data")
    assert error is not None
    assert (error.errno, error.problem, error.mtu, error.offender, error.data) == (
        90, Problem.TOO_BIG, 1300, packed("10.0.0.9"), b"data",
    )


def test_an_entry_of_ipv6() -> None:
    offender = struct.pack("=HHI", socket.AF_INET6, 0, 0) + packed("fd00::9") + bytes(4)
    error = parse_extended_error(entry(113, ORIGIN_ICMP6, 3, 0, 0, offender), b"")
    assert error is not None
    assert (error.problem, error.offender) == (Problem.TIME_EXCEEDED, packed("fd00::9"))


def test_entries_without_an_offender() -> None:
    for offender in (b"", bytes(16), struct.pack("=H", socket.AF_INET), struct.pack("=H", socket.AF_INET6) + bytes(10)):
        error = parse_extended_error(entry(90, ORIGIN_LOCAL, 0, 0, 1300, offender), b"")
        assert error is not None
        assert error.offender is None
        assert error.problem is None


@pytest.mark.parametrize(("origin", "kind", "code", "problem"), [
    (ORIGIN_ICMP, 3, 0, Problem.NET_UNREACHABLE), (ORIGIN_ICMP, 3, 1, Problem.HOST_UNREACHABLE),
    (ORIGIN_ICMP, 3, 2, Problem.PROTOCOL_UNREACHABLE), (ORIGIN_ICMP, 3, 3, Problem.PORT_UNREACHABLE),
    (ORIGIN_ICMP, 3, 13, Problem.PROHIBITED), (ORIGIN_ICMP, 11, 0, Problem.TIME_EXCEEDED),
    (ORIGIN_ICMP, 12, 0, None), (ORIGIN_ICMP, 5, 0, None),
    (ORIGIN_ICMP6, 1, 0, Problem.NET_UNREACHABLE), (ORIGIN_ICMP6, 1, 1, Problem.PROHIBITED),
    (ORIGIN_ICMP6, 1, 3, Problem.HOST_UNREACHABLE), (ORIGIN_ICMP6, 1, 4, Problem.PORT_UNREACHABLE),
    (ORIGIN_ICMP6, 2, 0, Problem.TOO_BIG), (ORIGIN_ICMP6, 3, 0, Problem.TIME_EXCEEDED),
])
def test_what_an_entry_means(origin: int, kind: int, code: int, problem: Problem | None) -> None:
    assert HostError(0, origin, kind, code, 0, None, b"").problem is problem


@given(st.binary(max_size=64))
def test_any_bytes_are_an_entry_or_none(value: bytes) -> None:
    error = parse_extended_error(value, b"")
    assert (error is None) == (len(value) < 16)
    if error is not None:
        assert error.offender is None or len(error.offender) in (4, 16)


def test_what_came_before_connect_is_thrown_away(version: int, host: socket.socket) -> None:
    with open_udp(version) as sock, socket.socket(host.family, socket.SOCK_DGRAM) as stranger:
        sock.bind((HOST[version], 0))
        for _ in range(3):
            stranger.sendto(b"forged", sock.getsockname())
        host.sendto(b"", sock.getsockname())
        assert connect(sock, version, packed(HOST[version]), host.getsockname()[1]) == 4
        with pytest.raises(BlockingIOError):
            sock.recv(10)
        host.sendto(b"true", sock.getsockname())
        assert sock.recv(10) == b"true"


@needs_ipv6
def test_a_mapped_address_does_not_become_ipv4() -> None:
    with open_udp(6) as sock, pytest.raises(OSError):
        connect(sock, 6, packed("::ffff:127.0.0.1"), 9)


def test_no_error_is_none(version: int) -> None:
    with open_udp(version) as sock:
        assert read_error(sock) is None
        assert path_mtu(sock, version) == 0, "not connected"


def test_an_unknown_option_is_done_without() -> None:
    with open_udp(4) as sock:
        set_option(sock, socket.IPPROTO_IP, 9999, 1)
