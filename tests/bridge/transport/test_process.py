"""The channel on a child process: bytes whole and in order, backpressure, ends told once, children ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from netbridge.bridge.transport import outgoing
from netbridge.bridge.transport.process import READ_BUFFER, ProcessChannel, start_process

from .listener import Listener, echo, gone, me, running


def start(script: str, **more: Any) -> ProcessChannel:
    return start_process(["sh", "-c", script], user=me(), log=more.pop("log", lambda _line: None), **more)


async def test_two_hundred_megabytes_come_back_equal() -> None:
    channel = start("exec cat")
    await echo(channel, 200_000_000)
    channel.close()
    assert await channel.wait_closed() == 0


async def test_more_buffers_than_one_writev_takes() -> None:
    channel = start("exec cat")
    listener = Listener(channel)
    pieces = [b"%06d" % number for number in range(5000)]
    channel.write(pieces)
    assert await listener.until(30000) == b"".join(pieces)
    channel.close()
    await channel.wait_closed()


async def test_ready_falls_and_rises() -> None:
    channel = start("sleep 0.2; exec cat >/dev/null")
    listener = Listener(channel)
    assert channel.ready
    block = bytes(65536)
    written = 0
    while channel.ready:
        channel.write([block])
        written += len(block)
        assert written < 64 << 20, "never not ready"
    assert not listener.ready_again
    while not channel.ready:
        await listener.news()
    assert listener.ready_again == 1
    channel.close()
    await channel.wait_closed()


async def test_a_writer_that_ignores_ready_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MOST_WAITING", 1 << 20)
    channel = start("sleep 60")
    Listener(channel)
    with pytest.raises(BufferError):
        for _ in range(64):
            channel.write([bytes(65536)])
    channel.close()
    channel.child.signal(signal.SIGKILL)
    assert await channel.wait_closed() == 128 + signal.SIGKILL


async def test_a_changed_view_of_the_buffer_is_not_kept() -> None:
    """The view a user gets is of one reused buffer; two reads bring two contents."""
    channel = start("echo one; sleep 0.1; echo two")
    listener = Listener(channel)
    assert await listener.lost is None
    assert bytes(listener.data) == b"one\ntwo\n"


async def test_exit_status_and_last_words_are_known_when_the_end_is_told() -> None:
    heard: list[tuple[int | None, str]] = []

    def explain(status: int | None, text: str) -> Exception:
        heard.append((status, text))
        return ValueError(text)

    lines: list[str] = []
    # stdout ends first, the words come later, the exit last
    channel = start("exec 0<&- 1>&-; sleep 0.1; echo 'last words' >&2; exit 9", explain=explain, log=lines.append)
    listener = Listener(channel)
    error = await listener.lost
    assert isinstance(error, ValueError)
    assert heard == [(9, "last words")]
    assert lines == ["last words"]
    assert channel.diagnostics() == "last words"
    assert await channel.wait_closed() == 9


async def test_killed_child_gives_128_plus_signal() -> None:
    channel = start("kill -9 $$")
    assert await Listener(channel).lost is None
    assert await channel.wait_closed() == 137


async def test_close_ends_a_child_that_heeds_end_of_file() -> None:
    channel = start("exec cat")
    listener = Listener(channel)
    channel.close()
    channel.close()
    assert await channel.wait_closed() == 0
    assert await listener.lost is None
    channel.write([b"nothing happens"])
    assert not running(channel.child.pid)


async def test_close_ends_a_stubborn_child_and_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbridge.bridge.transport.child.TERMINATE_AFTER", 0.1)
    monkeypatch.setattr("netbridge.bridge.transport.child.KILL_AFTER", 0.1)
    channel = start("trap '' TERM; sleep 60 & echo $!; while :; do sleep 60; done")
    listener = Listener(channel)
    grandchild = int(await listener.until(2))
    channel.close()
    channel.child.end_soon(0)
    async with asyncio.timeout(8):
        assert await channel.wait_closed() == 128 + signal.SIGKILL
    assert await gone(grandchild)


async def test_a_grandchild_that_holds_stderr_does_not_hold_us() -> None:
    channel = start("sleep 30 </dev/null >/dev/null & exit 3")
    listener = Listener(channel)
    async with asyncio.timeout(5):
        assert await listener.lost is None
        assert await channel.wait_closed() == 3
    os.killpg(channel.child.pid, signal.SIGKILL)


async def test_nor_does_it_hold_a_pipe_when_the_channel_was_closed() -> None:
    """Whoever ends a program does not wait for more words: what the child said is taken, and the pipe let go."""
    channel = start("sleep 30 </dev/null >/dev/null & cat >/dev/null; echo last words >&2; exit 3")
    Listener(channel)
    channel.close()
    async with asyncio.timeout(5):
        assert await channel.wait_closed() == 3
    assert channel._diagnostics.ended
    assert channel.diagnostics() == "last words"
    os.killpg(channel.child.pid, signal.SIGKILL)


async def test_the_stream_passes_from_user_to_user_without_a_gap() -> None:
    channel = start("exec cat")
    first = Listener(channel)
    channel.write([b"for the first"])
    await first.until(13)
    channel.pause(b"left over, ")
    channel.write([b"for the second"])
    await asyncio.sleep(0.05)
    second = Listener(channel)
    assert await second.until(25) == b"left over, for the second"
    assert bytes(first.data) == b"for the first"
    channel.close()
    await channel.wait_closed()


async def test_an_end_while_nobody_listens_is_told_to_the_next() -> None:
    channel = start("echo gone")
    await asyncio.sleep(0.1)
    listener = Listener(channel)
    assert await listener.lost is None
    assert bytes(listener.data) == b"gone\n"
    assert await channel.wait_closed() == 0


async def test_end_input_is_a_half_close() -> None:
    channel = start("wc -c")
    listener = Listener(channel)
    channel.write([bytes(3_000_000)])
    channel.end_input()
    assert await listener.lost is None
    assert bytes(listener.data).strip() == b"3000000"


async def test_writing_to_a_child_that_reads_nothing_and_ends() -> None:
    channel = start("echo bye; exec 0<&-; exit 0")
    listener = Listener(channel)
    for _ in range(100):
        channel.write([bytes(100_000)])
        await asyncio.sleep(0)
    assert await listener.lost is None
    assert bytes(listener.data) == b"bye\n"


async def test_descriptors_come_with_the_stream() -> None:
    sender = (
        "import array, os, socket; s = socket.socket(fileno=0); r, w = os.pipe(); os.write(w, b'by pipe');"
        "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r]))])"
    )
    channel = start_process(
        [sys.executable, "-I", "-c", sender], user=me(), log=lambda _line: None, takes_descriptors=True
    )
    listener = Listener(channel)
    await listener.until(1)
    (descriptor,) = channel.received_descriptors()
    assert channel.received_descriptors() == []
    assert os.read(descriptor, 100) == b"by pipe"
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    await listener.lost


async def test_descriptors_nobody_took_are_closed() -> None:
    sender = (
        "import array, os, socket; s = socket.socket(fileno=0); r, w = os.pipe();"
        "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [w]))]); os.close(w); os.read(r, 1)"
    )
    channel = start_process(
        [sys.executable, "-I", "-c", sender], user=me(), log=lambda _line: None, takes_descriptors=True
    )
    listener = Listener(channel)
    await listener.until(1)
    channel.close()
    async with asyncio.timeout(5):  # the other end reads end of file only when our copy is closed
        assert await channel.wait_closed() == 0


async def test_no_such_program() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        start_process(["/no/such/program"], user=me(), log=print)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_interactive_children_ignore_the_terminals_signals() -> None:
    channel = start("kill -INT $$; kill -HUP $$; echo alive; read x", interactive=True)
    listener = Listener(channel)
    assert await listener.until(6) == b"alive\n"
    assert os.getpgid(channel.child.pid) == os.getpgrp()
    channel.close()
    await channel.wait_closed()


async def test_other_children_have_a_session_of_their_own() -> None:
    channel = start("exec cat")
    assert os.getsid(channel.child.pid) == channel.child.pid
    channel.close()
    await channel.wait_closed()


async def test_stderr_is_drained_bounded_and_made_printable() -> None:
    lines: list[str] = []
    channel = start(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; "
        "printf '\\n\\033[2Jred\\007\\n' >&2",
        log=lines.append,
    )
    await Listener(channel).lost
    assert lines[:2] == ["line 0", "line 1"]
    kept = channel.diagnostics().splitlines()
    assert len(kept) == 20
    assert kept[-1] == "\\x1b[2Jred\\x07"
    assert kept[-2] == "x" * 400
    assert kept[-3] == "line 2999"


async def test_reads_fill_the_buffer_without_losing_its_end() -> None:
    size = READ_BUFFER * 3 + 17
    channel = start(f"head -c {size} /dev/zero")
    listener = Listener(channel)
    await listener.lost
    assert listener.count == size


async def test_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        channel = start("echo x; exec cat")
        listener = Listener(channel)
        await listener.until(2)
        channel.close()
        await channel.wait_closed()
    await asyncio.sleep(0.6)  # the diagnostics' grace
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the loop's own self-pipe may come late
