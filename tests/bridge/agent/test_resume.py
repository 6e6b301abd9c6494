"""The link's two ends against each other, their connection cut anywhere: each packet arrives once and in order."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from netbridge.bridge.agent import window
from netbridge.bridge.agent.frames import FrameError

from .ends import Ends, Wire, packet

SIZES = [(14, 31), (90, 12), (20, 5000), (4200, 20), (33, 33)]
"""Bytes of the packets down and up, one pair after the other; those above 4 KiB are written at once."""
DOWN = [packet("d", number, down) for number, (down, _) in enumerate(SIZES)]
UP = [packet("u", number, up) for number, (_, up) in enumerate(SIZES)]


@pytest.fixture(autouse=True)
def _acknowledge_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a short conversation has acknowledgements too."""
    monkeypatch.setattr(window, "LAZY", 40)


def converse(ends: Ends, down: list[bytes] = DOWN, up: list[bytes] = UP) -> None:
    for one, other in zip(down, up, strict=True):
        ends.send(one)
        ends.emit(other)
        ends.settle()


def check(ends: Ends, down: list[bytes] = DOWN, up: list[bytes] = UP) -> None:
    """Everything arrived, and the link is as good as ever."""
    ends.settle()
    assert ends.errors == []
    assert ends.delivered == down
    assert ends.received == up
    ends.send(b"one more down")
    ends.emit(b"one more up")
    ends.settle()
    assert (ends.delivered[-1], ends.received[-1]) == (b"one more down", b"one more up")
    assert ends.link.carrying
    assert ends.stream.connected
    assert ends.stream.acks.taken == sum(map(len, ends.delivered)) == ends.link._window.sent
    assert ends.link.taken == sum(map(len, ends.received)) == ends.stream.window.sent


@pytest.fixture(scope="module")
def lengths() -> tuple[int, int]:
    """Bytes up and down of the whole conversation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "LAZY", 40)
        ends = Ends(Wire())
        converse(ends)
        up, down = ends.wires[0].carried
        check(ends)
        ends.close()
    return up, down


def cut_after(direction: str, at: int) -> Wire:
    return Wire(up=at) if direction == "up" else Wire(down=at)


def positions(total: int) -> Iterator[int]:
    """Every byte; inside the big packets, which are alike, only some."""
    return (at for at in range(total) if at < 400 or at > total - 400 or at % 61 == 0)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_after_every_byte(lengths: tuple[int, int], direction: str) -> None:
    total = lengths[direction == "down"]
    for at in positions(total):
        ends = Ends(cut_after(direction, at))
        converse(ends)
        assert (ends.cuts, ends.lost) == (1, 1), at
        ends.resume(Wire())
        check(ends)
        ends.close()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_again_after_every_byte_of_the_replay(lengths: tuple[int, int], direction: str) -> None:
    for first in (lengths[0] // 5, lengths[0] // 2, lengths[0] - 30):
        rest = Wire()
        ends = Ends(Wire(up=first))
        converse(ends)
        ends.resume(rest)
        check(ends)
        ends.close()
        for at in positions(rest.carried[direction == "down"]):
            ends = Ends(Wire(up=first))
            converse(ends)
            ends.resume(cut_after(direction, at))
            ends.settle()
            ends.resume(Wire())
            check(ends)
            ends.close()


@pytest.mark.parametrize("seed", range(150))
def test_cut_any_number_of_times_anywhere(seed: int) -> None:
    rng = random.Random(seed)
    print("seed", seed)
    down = [packet("d", number, rng.choice([12, 40, 300, 5000, 60_000])) for number in range(12)]
    up = [packet("u", number, rng.choice([12, 40, 300, 5000, 60_000])) for number in range(12)]

    def some() -> Wire:
        narrow = rng.random() < 0.5
        at = int(10 ** rng.uniform(0, 5))
        return Wire(up=at, narrow=narrow) if rng.random() < 0.5 else Wire(down=at, narrow=narrow)

    ends = Ends(some())
    for one, other in zip(down, up, strict=True):
        ends.send(one)
        ends.emit(other)
        if rng.random() < 0.7:
            ends.settle()
        if ends.wires[-1].broken and rng.random() < 0.5:
            ends.resume(some())
        if ends.wires[-1].broken and not ends.stream.connected and rng.random() < 0.3:
            ends.resume(some())
    for _ in range(3):
        ends.settle()
        ends.resume(some())
    ends.settle()
    ends.resume(Wire())
    check(ends, down, up)
    ends.close()


@pytest.mark.parametrize("settled", [False, True])
def test_an_agent_that_has_not_noticed_gives_the_old_connection_up(settled: bool) -> None:
    """sshd may take minutes to notice; the session is there again long before."""
    ends = Ends(Wire())
    converse(ends, DOWN[:3], UP[:3])
    ends.wires[0].break_(agent_notices=False)
    ends.emit(UP[3])  # into a pipe that nobody empties
    ends.send(DOWN[3])
    if settled:
        ends.settle()
    assert ends.stream.connected
    ends.resume(Wire())
    assert ends.lost == 0
    converse(ends, DOWN[4:], UP[4:])
    check(ends)
    ends.close()


def test_what_the_kernel_over_there_sends_meanwhile_waits_in_the_tun() -> None:
    ends = Ends(Wire(up=1))
    ends.emit(UP[0])
    ends.settle()
    for number in range(1, 5):
        ends.emit(UP[number])
    ends.settle()
    assert ends.stream.window.sent == len(UP[0])
    ends.resume(Wire())
    check(ends, [], UP)
    ends.close()


@pytest.mark.parametrize("total", [-1, 1, 5, 13, 15, 103, 105, 1 << 40, 1 << 200, -(1 << 70)])
def test_a_total_that_cannot_be_changes_nothing_at_the_agent(total: int) -> None:
    ends = Ends(Wire())
    for one in (14, 90):
        ends.emit(packet("u", one, one))
        ends.settle()
    assert ends.stream.window.acked == 104
    ends.emit(packet("u", 3, 20))
    ends.settle()
    assert (ends.stream.window.acked, ends.stream.window.sent) == (104, 124)
    other = Wire()
    with pytest.raises(FrameError):
        ends.stream.resume(other.agent_in, other.agent_out, total, {"type": "resumed"})
    other.let_go()
    converse(ends)
    assert ends.delivered == DOWN
    assert ends.received[3:] == UP
    assert ends.errors == []
    ends.close()


def test_less_than_was_acknowledged_is_refused() -> None:
    """The frames may still be in their buffer; what was acknowledged once is not sent again."""
    ends = Ends(Wire())
    for size in (50, 60):
        ends.emit(packet("u", size, size))
        ends.settle()
    assert ends.stream.window.acked == 110
    assert ends.stream._kept.after(110) == []
    wire = Wire()
    for total in (0, 50):
        with pytest.raises(FrameError):
            ends.stream.resume(wire.agent_in, wire.agent_out, total, {"type": "resumed"})
    wire.let_go()
    ends.close()


def test_a_connection_that_is_gone_at_once_is_told_like_any_other() -> None:
    ends = Ends(Wire(up=1))
    ends.emit(UP[0])
    ends.settle()
    assert ends.lost == 1
    wire = Wire()
    wire.give_up()
    ends.resume(wire)
    assert ends.lost == 2
    assert not ends.stream.connected
    wire.broken = True
    ends.link.cut(None)
    ends.resume(Wire())
    check(ends, [], UP[:1])
    ends.close()
