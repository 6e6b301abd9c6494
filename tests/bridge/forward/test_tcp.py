"""TCP re-originated: how connections begin and end, both ways.

After each test everything must be back to nothing: flows, table, poller, requests, descriptors, budget.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from netbridge.bridge.forward import tcpflow
from netbridge.bridge.forward import tcpsocket as module
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.policy import Policy
from netbridge.stack.icmp.wire import Problem
from netbridge.stack.link.memory import MemoryLink
from netbridge.stack.tcp.flow import Flow
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import RST
from tests.bridge.forward.bridge import (
    Bridge,
    Faulty,
    Listener,
    black_hole,
    closed_port,
    connected,
    host_flow,
    open_descriptors,
    opened,
    read_all,
    reset,
    settle,
    unacknowledged,
)
from tests.bridge.forward.fakes import ALLOW_LOOPBACK, until

# -- the handshake


async def test_a_connection_carries_bytes_both_ways_and_closes(bridge: Bridge, listener: Listener) -> None:
    end, host = await opened(bridge, listener)
    end.transport.write(b"question")
    assert await bridge.loop.sock_recv(host, 100) == b"question"
    await bridge.loop.sock_sendall(host, b"answer")
    await until(lambda: end.data == b"answer")
    flow = host_flow(bridge)
    assert (flow.state, flow.bytes_up, flow.bytes_down) == ("open", 8, 6)
    assert str(listener.port) in repr(flow)
    host.close()
    await until(lambda: end.eof)
    end.transport.close()
    await until(lambda: end.lost)
    assert end.lost == [None]
    await bridge.nothing_left()


async def test_a_server_that_speaks_first(bridge: Bridge, listener: Listener) -> None:
    """Its greeting may be here before the codespace has answered our SYN-ACK; so may its FIN."""
    async def greet() -> None:
        host = await listener.accept()
        host.send(b"220 ready")
        host.close()

    greeting = asyncio.ensure_future(greet())
    reader, writer = await bridge.codespace.open_connection(listener.host, listener.port)
    assert await reader.read() == b"220 ready"
    await greeting
    writer.close()
    await bridge.nothing_left()


async def test_the_syn_is_answered_only_when_the_host_has_accepted(limits: Limits) -> None:
    bridge = Bridge(Limits(tcp_connect_timeout=5), Policy(ALLOW_LOOPBACK))
    with black_hole() as (listener, port):
        opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port))
        await until(lambda: len(bridge.forwarder) == 1)
        for _ in range(3):  # the codespace's kernel asks again
            (flow,) = bridge.codespace.tcp.flows.values()
            flow.connection._syn_again = True
            flow.flush()
            await settle()
        assert not opening.done()
        assert not bridge.stack.tcp.flows
        assert bridge.counters.connects == 1
        assert bridge.stack.tcp.counters.syn_repeated == 3
        accepted = []
        listener.setblocking(False)
        while not opening.done():  # there is room in the queue again: the host kernel's next SYN gets through
            with contextlib.suppress(BlockingIOError):
                accepted.append(listener.accept()[0])
            await asyncio.sleep(0.01)
        _, writer = opening.result()
        assert bridge.counters.connected == 1
        writer.transport.abort()
        for sock in accepted:
            sock.close()
        await until(lambda: not len(bridge.forwarder))
    await bridge.close()


async def test_a_closed_port_refuses_at_once(bridge: Bridge) -> None:
    port = closed_port()
    for number in range(3):
        with pytest.raises(ConnectionRefusedError):
            await bridge.codespace.open_connection("127.0.0.1", port)
        assert bridge.counters.refused == number + 1
    await bridge.nothing_left()


async def test_a_black_hole_is_silence_until_the_connect_is_given_up(bridge: Bridge) -> None:
    with black_hole() as (_, port):
        opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port))
        await until(lambda: len(bridge.forwarder) == 1)
        await until(lambda: bridge.counters.timed_out == 1, 2)
        assert len(bridge.forwarder) == len(bridge.poller) == 0
        assert not bridge.stack.tcp.requests
        assert not opening.done()
        assert bridge.codespace.icmp.counters.received == 0
        assert bridge.stack.tcp.counters.segments_out == 0
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    await bridge.nothing_left()


async def test_a_reset_takes_the_connect_back(bridge: Bridge) -> None:
    with black_hole() as (_, port):
        opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", port))
        await until(lambda: len(bridge.forwarder) == 1)
        (flow,) = bridge.codespace.tcp.flows.values()
        taken_back(bridge.there, flow)
        await until(lambda: not len(bridge.forwarder))
        assert bridge.counters.cancelled == 1
        assert len(bridge.poller) == 0
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    await bridge.nothing_left()


def taken_back(link: MemoryLink, flow: Flow) -> None:
    """A reset for the SYN of `flow`."""
    writer = HeaderWriter(*flow.local, *flow.remote, offload=True)
    link.send(writer.write(flow.connection.sender.iss + 1 & 0xFFFFFFFF, 0, RST, 0, b"", b"", 1))


async def test_the_policys_no_is_prohibited(limits: Limits) -> None:
    bridge = Bridge(limits, Policy())
    with pytest.raises(PermissionError):
        await bridge.codespace.open_connection("127.0.0.1", 80)
    assert bridge.counters.dropped_policy == 1
    assert bridge.counters.connects == 0
    await bridge.nothing_left()
    await bridge.close()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, int | OSError]:
    """Put a fault in here, and the forwarder's next calls of that name fail with it."""
    faults: dict[str, int | OSError] = {}
    kind = type("FaultySocket", (Faulty,), {"faults": faults})

    class Module:
        """The socket module with another class of sockets."""

        socket = kind

        def __getattr__(self, name: str) -> Any:
            return getattr(socket, name)

    monkeypatch.setattr(module, "socket", Module())
    return faults


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize(
    ("number", "seen"),
    [
        (errno.ECONNREFUSED, errno.ECONNREFUSED), (errno.EHOSTUNREACH, errno.EHOSTUNREACH),
        (errno.ENETUNREACH, errno.ENETUNREACH), (errno.EACCES, errno.EACCES), (errno.EPERM, errno.EACCES),
    ],
)  # fmt: skip
async def test_connect_fails_over_there_as_it_does_here(
    bridge: Bridge, faults: dict[str, int | OSError], number: int, seen: int, *, raised: bool
) -> None:
    faults["connect"] = OSError(number, "as told") if raised else number
    with pytest.raises(OSError) as caught:
        await bridge.codespace.open_connection("127.0.0.1", 80)
    assert caught.value.errno in {seen, None}
    assert type(caught.value) is type(OSError(seen, ""))
    await bridge.nothing_left()


@pytest.mark.parametrize(
    ("number", "counter"),
    [
        (errno.ETIMEDOUT, "timed_out"), (errno.EADDRNOTAVAIL, "dropped_error"), (errno.ENOBUFS, "dropped_error"),
        (errno.EMFILE, "dropped_error"),
    ],
)  # fmt: skip
async def test_shortages_and_timeouts_are_silence(
    bridge: Bridge, faults: dict[str, int | OSError], number: int, counter: str
) -> None:
    faults["connect"] = number
    opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", 80))
    await until(lambda: bridge.counters.connects == 1)
    await settle()
    assert getattr(bridge.counters, counter) == 1
    assert not opening.done()
    assert bridge.stack.tcp.counters.segments_out == bridge.stack.icmp.counters.errors_sent == 0
    opening.cancel()
    await asyncio.wait([opening])
    await bridge.nothing_left()


async def test_what_the_network_said_counts_whatever_errno_it_became(
    bridge: Bridge, faults: dict[str, int | OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """3/8, source isolated, is ENONET on Linux, which nothing of this machine's own would ever say."""
    faults["connect"] = errno.ENONET
    said = Problem.SOURCE_ISOLATED, None, 64
    monkeypatch.setattr(tcpflow, "told_by_network", lambda *_: said)
    with pytest.raises(OSError) as caught:
        await bridge.codespace.open_connection("127.0.0.1", 80)
    assert caught.value.errno == Problem.SOURCE_ISOLATED.errno
    assert bridge.counters.unreachable == 1
    await bridge.nothing_left()


async def test_options_that_cannot_be_set_leave_no_socket(bridge: Bridge, faults: dict[str, int | OSError]) -> None:
    before = open_descriptors()
    faults["setsockopt"] = OSError(errno.ENOBUFS, "no")
    opening = asyncio.ensure_future(bridge.codespace.open_connection("127.0.0.1", 80))
    await until(lambda: bridge.counters.dropped_error == 1)
    assert open_descriptors() == before
    assert not bridge.stack.tcp.requests
    opening.cancel()
    await asyncio.wait([opening])
    await bridge.nothing_left()


async def test_a_poller_that_takes_no_more(
    bridge: Bridge, listener4: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "max_user_watches")

    monkeypatch.setattr(bridge.poller, "register", full)
    opening = asyncio.ensure_future(bridge.codespace.open_connection(listener4.host, listener4.port))
    await until(lambda: bridge.counters.dropped_error == 1)
    opening.cancel()
    await asyncio.wait([opening])
    await bridge.nothing_left()


# -- half-close and close


async def test_half_close_by_the_codespace(bridge: Bridge, listener: Listener) -> None:
    end, host = await opened(bridge, listener)
    question, answer = random.Random(1).randbytes(300_000), random.Random(2).randbytes(2_000_000)
    end.transport.write(question)
    end.transport.write_eof()
    assert await read_all(host) == question
    await until(lambda: host_flow(bridge).state == "half closed by codespace")
    await settle()
    await bridge.loop.sock_sendall(host, answer)
    host.close()
    await until(lambda: end.eof)
    assert end.data == answer
    end.transport.close()
    await bridge.nothing_left()


async def test_half_close_by_the_host(bridge: Bridge, listener: Listener) -> None:
    end, host = await opened(bridge, listener)
    greeting, upload = random.Random(1).randbytes(300_000), random.Random(2).randbytes(2_000_000)
    await bridge.loop.sock_sendall(host, greeting)
    host.shutdown(socket.SHUT_WR)
    await until(lambda: end.eof)
    assert end.data == greeting
    assert host_flow(bridge).state == "half closed by host"
    end.transport.write(upload)
    end.transport.close()
    assert await read_all(host) == upload
    await bridge.nothing_left()


async def test_both_close_at_once(bridge: Bridge, listener: Listener) -> None:
    for _ in range(20):
        end, host = await opened(bridge, listener)
        end.transport.write(b"up")
        host.send(b"down")
        end.transport.write_eof()
        host.shutdown(socket.SHUT_WR)
        assert await read_all(host) == b"up"
        await until(lambda end=end: end.eof)  # type: ignore[misc]
        assert end.data == b"down"
        end.transport.close()
        await until(lambda end=end: end.lost)  # type: ignore[misc]
    await bridge.nothing_left()


async def test_close_with_a_backlog_for_a_host_that_reads_late(bridge: Bridge) -> None:
    listener = Listener(receive_buffer=4096)
    end, host = await opened(bridge, listener)
    upload = random.Random(3).randbytes(8_000_000)
    end.transport.write(upload)
    end.transport.close()
    await settle()
    assert not end.lost
    assert await read_all(host) == upload
    await until(lambda: end.lost)
    assert end.lost == [None]
    listener.close()
    await bridge.nothing_left()


async def test_close_with_a_backlog_for_a_codespace_that_reads_late(bridge: Bridge, listener4: Listener) -> None:
    end, host = await opened(bridge, listener4)
    end.transport.pause_reading()
    answer = random.Random(4).randbytes(6_000_000)
    sending = asyncio.ensure_future(bridge.loop.sock_sendall(host, answer))
    await settle()
    assert not end.data
    end.transport.resume_reading()
    await sending
    host.close()
    await until(lambda: end.eof)
    assert end.data == answer
    end.transport.close()
    await bridge.nothing_left()


async def test_a_fin_behind_a_closed_window_comes_as_soon_as_it_opens(bridge: Bridge, listener4: Listener) -> None:
    end, host = await opened(bridge, listener4)
    end.transport.pause_reading()
    host.send(b"x" * 65_536)  # the codespace's whole window
    host.close()
    await until(lambda: host_flow(bridge).state == "half closed by host")
    await settle()
    end.transport.resume_reading()
    await until(lambda: end.eof, 1)  # no timer has to expire
    assert len(end.data) == 65_536
    end.transport.close()
    await bridge.nothing_left()


# -- keepalive


async def test_the_host_is_asked_as_often_as_the_codespace_asks(bridge: Bridge, listener4: Listener) -> None:
    end, _host = await opened(bridge, listener4)
    (flow,) = bridge.forwarder._flows
    assert flow._sock is not None

    def option(name: int) -> int:
        assert flow._sock is not None
        return flow._sock.getsockopt(socket.IPPROTO_TCP, name)

    usual = option(socket.TCP_KEEPIDLE)
    for idle, asked in ((200.2, 200), (30.4, 30), (40.0, 30), (1.0, 10)):
        flow.probed(idle)
        assert option(socket.TCP_KEEPIDLE) == asked < usual
        assert option(socket.TCP_KEEPINTVL) == min(asked, 75)
    end.transport.abort()
    await bridge.nothing_left()


# -- resets


async def test_a_reset_by_the_codespace_is_a_reset_for_the_host(bridge: Bridge, listener: Listener) -> None:
    end, host = await opened(bridge, listener)
    end.transport.abort()
    await until(lambda: bridge.counters.resets_up == 1)
    with pytest.raises(ConnectionResetError):
        await bridge.loop.sock_recv(host, 1)
    await bridge.nothing_left()


async def test_a_reset_by_the_host_is_a_reset_for_the_codespace(bridge: Bridge, listener: Listener) -> None:
    end, host = await opened(bridge, listener)
    reset(host)
    await until(lambda: end.lost)
    assert isinstance(end.lost[0], ConnectionResetError)
    assert bridge.counters.resets_down == 1
    await bridge.nothing_left()


@pytest.mark.parametrize("half", ["codespace", "host"])
async def test_a_reset_after_a_half_close(bridge: Bridge, listener4: Listener, half: str) -> None:
    end, host = await opened(bridge, listener4)
    if half == "codespace":
        end.transport.write_eof()
        assert await read_all(host) == b""
    else:
        host.shutdown(socket.SHUT_WR)
        await until(lambda: end.eof)
    reset(host)
    if half == "host":  # the host's kernel answers with a reset what it gets now
        end.transport.write(b"late")
    await until(lambda: end.lost)
    assert isinstance(end.lost[0], ConnectionResetError)
    await bridge.nothing_left()


async def test_what_the_host_sent_before_its_reset_arrives_before_it(bridge: Bridge, listener4: Listener) -> None:
    for size in (1, 20_000, 60_000):
        end, host = await opened(bridge, listener4)
        host.send(b"x" * size)
        await until(lambda host=host: not unacknowledged(host))  # type: ignore[misc]
        reset(host)
        await until(lambda end=end: end.lost)  # type: ignore[misc]
        assert len(end.data) == size
        assert isinstance(end.lost[0], ConnectionResetError)
    await bridge.nothing_left()


async def test_a_host_that_answers_and_resets_because_it_was_sent_more(bridge: Bridge, listener4: Listener) -> None:
    """413 Payload Too Large: the answer comes, then the reset, while the codespace still sends."""
    end, host = await opened(bridge, listener4)
    end.transport.pause_reading()
    answer = b"y" * 100_000
    sending = asyncio.ensure_future(bridge.loop.sock_sendall(host, answer))
    await until(sending.done)
    await until(lambda: not unacknowledged(host))  # it lies in the kernel here; the codespace's window is closed
    end.transport.write(b"much more")
    await until(lambda: host_flow(bridge).bytes_up > 0)
    host.close()  # with unread data: a reset
    await settle()
    end.transport.write(b"and more")  # meets the reset when it is sent on
    await settle()
    end.transport.resume_reading()
    await until(lambda: end.lost)
    assert bytes(end.data) == answer
    assert isinstance(end.lost[0], ConnectionResetError)
    await bridge.nothing_left()


async def test_a_reset_behind_a_reader_that_never_reads_is_not_kept_for_ever(
    bridge: Bridge, listener4: Listener
) -> None:
    end, host = await opened(bridge, listener4)
    end.transport.pause_reading()
    await bridge.loop.sock_sendall(host, b"z" * 100_000)
    await until(lambda: not unacknowledged(host))
    reset(host)
    await settle()
    assert len(bridge.forwarder) == 1
    await until(lambda: not len(bridge.forwarder), 2)  # limits.tcp_orphan_timeout
    await until(lambda: end.lost)
    assert isinstance(end.lost[0], ConnectionResetError)
    await bridge.nothing_left()


async def test_a_host_that_accepts_speaks_and_resets_at_once(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it before this program looks: SO_ERROR says reset, yet the connect has succeeded."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        register = bridge.poller.register

        def late(fd: int, callback: Callable[[int], None]) -> None:
            host, _ = listener.accept()
            host.send(b"go away")
            reset(host)
            register(fd, callback)

        monkeypatch.setattr(bridge.poller, "register", late)
        end = await connected(bridge, *listener.getsockname())
        await until(lambda: end.lost)
    assert end.data == b"go away"
    assert isinstance(end.lost[0], ConnectionResetError)
    await bridge.nothing_left()


async def test_errors_of_the_host_socket_stay_with_their_flow(
    bridge: Bridge, listener4: Listener, faults: dict[str, int | OSError]
) -> None:
    other, other_host = await opened(bridge, listener4)
    for name in ("shutdown", "send", "linger"):
        end, host = await opened(bridge, listener4)
        host.send(b"before")
        await until(lambda end=end: end.data == b"before")  # type: ignore[misc]
        faults[name] = OSError(errno.ENOTCONN, "no")
        if name == "shutdown":
            end.transport.write_eof()
        elif name == "send":
            end.transport.write(b"x")
        else:
            end.transport.abort()
        await until(lambda end=end: end.lost)  # type: ignore[misc]
        assert name == "linger" or isinstance(end.lost[0], ConnectionResetError)
        await until(lambda: len(bridge.forwarder) == 1)
        faults.clear()
    other.transport.write(b"still here")
    assert await bridge.loop.sock_recv(other_host, 100) == b"still here"
    other.transport.abort()
    await bridge.nothing_left()
