"""Ping from the codespace through real ICMP sockets of this machine."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest

from netbridge.bridge.forward import icmp as icmp_module
from netbridge.bridge.forward.hostsocket import HostError, open_ping
from netbridge.bridge.forward.icmp import with_sequence
from netbridge.bridge.forward.limits import Limits
from netbridge.stack.checksum import verifies
from netbridge.stack.icmp.wire import Problem
from tests.bridge.forward.fakes import CODESPACE, HOST, Bench, needs_ipv6, packed, settle, until


def can_ping() -> bool:
    try:
        open_ping(4)[0].close()
    except PermissionError:
        return False
    return True


needs_ping = pytest.mark.skipif(not can_ping(), reason="no ICMP sockets: be root, or see net.ipv4.ping_group_range")


@needs_ping
async def test_an_echo_comes_back_exactly(bench: Bench, version: int) -> None:
    payload = bytes(range(200))
    bench.ping(HOST[version], 0x1234, 7, payload)
    await until(lambda: bench.stack.icmp.replies)
    (reply,) = bench.stack.icmp.replies
    assert reply.source == packed(HOST[version])
    assert reply.destination == packed(CODESPACE[version])
    assert (reply.identifier, reply.sequence) == (0x1234, 7)
    assert reply.payload == payload
    assert reply.ttl == 63  # the host's 64, less this hop
    await settle()
    assert len(bench.stack.icmp.replies) == 1, "a raw socket sees the request on loopback too"


@needs_ping
async def test_sizes(bench: Bench, version: int) -> None:
    for sequence, size in enumerate((0, 1, 1472, 8000, 60000)):
        bench.ping(HOST[version], 1, sequence, b"z" * size)
        await until(lambda: len(bench.stack.icmp.replies) == sequence + 1)  # noqa: B023
        assert bench.stack.icmp.replies[-1].payload == b"z" * size
        assert bench.stack.icmp.replies[-1].sequence == sequence


@needs_ping
async def test_two_identifiers_do_not_hear_each_other(bench: Bench, version: int) -> None:
    for sequence in range(3):
        bench.ping(HOST[version], 100, sequence)
        bench.ping(HOST[version], 200, sequence)
    await until(lambda: len(bench.stack.icmp.replies) == 6)
    await settle()
    heard = sorted((reply.identifier, reply.sequence) for reply in bench.stack.icmp.replies)
    assert heard == [(100, 0), (100, 1), (100, 2), (200, 0), (200, 1), (200, 2)]
    assert len(bench.icmp) == 2


@needs_ping
async def test_a_reply_longer_than_any_request_is_dropped(bench: Bench, version: int) -> None:
    bench.ping(HOST[version], 1, 1, b"four")
    flow = next(iter(bench.icmp._flows.values()))
    flow.longest = 3
    await until(lambda: bench.table.counters.icmp.dropped_oversize)
    assert not bench.stack.icmp.replies


@needs_ping
async def test_messages_that_are_no_reply_to_the_flow_are_dropped(bench: Bench, version: int) -> None:
    bench.ping(HOST[version], 1, 1)
    await until(lambda: bench.stack.icmp.replies)
    flow = next(iter(bench.icmp._flows.values()))
    reply = 0 if version == 4 else 129
    for message in (
        b"", b"\0" * 7,
        struct.pack("!BBHHH", reply, 0, 0, flow.identifier ^ 1, 1),
        struct.pack("!BBHHH", reply, 1, 0, flow.identifier, 1),
        struct.pack("!BBHHH", 8, 0, 0, flow.identifier, 1),
    ):
        bench.icmp._reply(flow, message, 64)
    assert bench.table.counters.icmp.dropped_foreign == 5
    assert len(bench.stack.icmp.replies) == 1


@needs_ping
async def test_idle_and_recycling(version: int) -> None:
    bench = Bench(limits=Limits(icmp_flows=2))
    for identifier in (1, 2, 1, 3):
        bench.ping(HOST[version], identifier, 1)
    assert [flow.source_port for flow in bench.icmp._flows.values()] == [1, 3]
    assert bench.table.counters.icmp.flows_recycled == 1
    bench.clock.advance(59)
    assert len(bench.icmp) == 2
    bench.clock.advance(7)
    assert len(bench.icmp) == 0
    bench.close()


async def test_a_denied_destination_is_prohibited(bench: Bench) -> None:
    raw = bench.ping("169.254.169.254", 1, 1)
    (told,) = bench.stack.icmp.told
    assert (told.problem, told.quoted) == (Problem.PROHIBITED, raw)


async def test_forbidden_by_the_kernel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(version: int) -> Any:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(icmp_module, "open_ping", refuse)
    for sequence in range(3):
        raw = bench.ping("127.0.0.1", 1, sequence)
    assert [told.problem for told in bench.stack.icmp.told] == [Problem.PROHIBITED] * 3
    assert bench.stack.icmp.told[-1].quoted == raw
    assert bench.table.counters.icmp.dropped_forbidden == 3
    assert len(bench.hints) == 1, "told once"
    assert "ping_group_range" in bench.hints[0]
    assert len(bench.icmp) == 0


UNPRIVILEGED = """
import os, sys
from netbridge.bridge.forward.hostsocket import HostError, open_ping
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    sock, raw = open_ping(4)
except PermissionError:
    print("forbidden")
else:
    print("raw" if raw else "datagram")
"""


def may_user_ping() -> bool:
    with open("/proc/sys/net/ipv4/ping_group_range") as file:
        low, high = map(int, file.read().split())
    return low <= 65534 <= high


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights to see what remains")
def test_what_an_unprivileged_user_gets() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], capture_output=True, text=True, check=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    assert printed.strip() == ("datagram" if may_user_ping() else "forbidden")


@pytest.mark.parametrize("sequence", [0, 1, 0x00FF, 0xFF00, 0xFFFF, 0x8000])
@pytest.mark.parametrize("before", [0, 1, 0xFFFF, 0x1234])
def test_the_quoted_checksum_follows_the_sequence(before: int, sequence: int) -> None:
    from netbridge.stack.icmp.wire import emit

    payload = b"0123456789abcdef"
    quoted = b"H" * 20 + emit(4, b"", b"", 8, 0, 0xBEEF, before, payload)
    changed = with_sequence(quoted, 20, sequence) + payload
    assert changed[:20] == b"H" * 20
    assert changed[20:] == emit(4, b"", b"", 8, 0, 0xBEEF, sequence, payload)
    assert verifies(changed[20:])
    assert socket.ntohs(struct.unpack_from("=H", changed, 26)[0]) == sequence


@needs_ipv6
@needs_ping
async def test_an_error_about_a_request_behind_long_extension_headers(bench: Bench) -> None:
    """The ICMP header is then not in what is kept of the packet; the quote ends before it."""
    bench.ping("::1", 1, 1)
    flow = next(iter(bench.icmp._flows.values()))
    flow.quoted, flow.head = b"\x60" + bytes(127), 124
    message = struct.pack("!BBHHH", 128, 0, 0, flow.identifier, 1)
    assert bench.icmp._quoted(flow, HostError(113, 3, 3, 0, 0, None, message)) == flow.quoted


@needs_ping
async def test_an_error_about_a_request_to_another_host_is_ignored(bench: Bench, version: int) -> None:
    """Linux hands it to the socket, connected or not, if only the identifier is right."""
    bench.ping(HOST[version], 1, 1)
    flow = next(iter(bench.icmp._flows.values()))
    kind = 8 if version == 4 else 128
    error = HostError(113, version // 2, 3, 0, 0, None, struct.pack("!BBHHH", kind, 0, 0, flow.identifier, 1))
    error.towards = HOST[version]
    assert bench.icmp._quoted(flow, error) is not None
    error.towards = "192.0.2.1" if version == 4 else "2001:db8::1"
    assert bench.icmp._quoted(flow, error) is None


@needs_ping
async def test_a_ping_whose_socket_became_useless_is_counted_and_the_next_one_goes(bench: Bench, version: int) -> None:
    bench.ping(HOST[version], 1, 1)
    flow = next(iter(bench.icmp._flows.values()))
    flow.sock = Unreachable(fileno=flow.sock.detach())
    bench.ping(HOST[version], 1, 2)
    counters = bench.table.counters.icmp
    assert (counters.flows_failed, counters.dropped_send_error, len(bench.icmp)) == (1, 1, 0)
    bench.ping(HOST[version], 1, 3)
    assert (counters.packets_up, len(bench.icmp)) == (2, 1)


class Unreachable(socket.socket):
    """A socket whose address is gone."""

    def send(self, data: object, flags: int = 0) -> int:
        raise OSError(101, "Network is unreachable")
