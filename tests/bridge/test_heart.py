"""The heart on a clock turned by hand: when the other end is asked, and when it is given up."""

from __future__ import annotations

import asyncio
import random

import pytest

from netbridge.bridge import heart as module
from netbridge.bridge.heart import LEAST_PATIENCE, SUSPICIOUS, TICK, Heart, slept
from netbridge.bridge.options import Options

INTERVAL = Options().ping_interval


class FakeLink:
    """A link, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.carrying = True
        self.heard_at = self.now
        self.said_at = 0.0
        self.asked: list[float] = []
        self.cuts: list[tuple[float, str]] = []
        self.answers_after: float | None = None
        """Seconds until the answer to each question; None: there is none."""
        self._answers: list[float] = []

    def ping(self) -> bool:
        self.asked.append(self.now)
        if self.answers_after is not None:
            self._answers.append(self.now + self.answers_after)
        return True

    def cut(self, error: Exception | None) -> None:
        self.cuts.append((self.now, str(error)))
        self.carrying = False

    def passes(self, seconds: float) -> None:
        """Time goes by, and answers come in."""
        self.now += seconds
        for at in [at for at in self._answers if at <= self.now]:
            self._answers.remove(at)
            self.heard_at = at


class Beating:
    """A heart that looks every TICK."""

    def __init__(self, link: FakeLink, *, interval: float = INTERVAL, awake: bool = True) -> None:
        self.link = link
        self.asleep = 5.0
        self.heart = Heart(
            link, interval=interval, awake=awake, slept=lambda: self.asleep,
            dead=lambda seconds: TimeoutError(f"silent for {seconds:.1f} s"),
        )

    def run(self, seconds: float) -> None:
        end = self.link.now + seconds
        while self.link.now < end - 1e-9:
            self.heart.look(self.link.now)
            self.link.passes(TICK)


def test_a_silent_link_is_asked_after_the_interval_and_cut_within_ten_seconds() -> None:
    link = FakeLink()
    Beating(link).run(20)
    assert len(link.asked) == 1
    assert INTERVAL <= link.asked[0] - 1000 <= INTERVAL + TICK
    ((at, why),) = link.cuts
    assert at - 1000 <= INTERVAL + LEAST_PATIENCE + 2 * TICK <= 10
    assert why == f"silent for {at - 1000:.1f} s"


def test_a_link_that_speaks_is_not_asked() -> None:
    link = FakeLink()
    beating = Beating(link)
    for _ in range(100):
        beating.run(INTERVAL - TICK)
        link.heard_at = link.now
    assert link.asked == link.cuts == []


def test_a_link_that_answers_is_asked_again_and_again_and_never_cut() -> None:
    link = FakeLink()
    link.answers_after = 0.2
    Beating(link).run(60)
    assert link.cuts == []
    assert 60 / (INTERVAL + 2 * TICK) - 1 <= len(link.asked) <= 60 / INTERVAL


def test_an_answer_that_takes_as_long_as_patience_allows_is_in_time() -> None:
    link = FakeLink()
    link.answers_after = LEAST_PATIENCE - TICK
    Beating(link).run(120)
    assert link.asked
    assert link.cuts == []


def test_any_byte_counts_not_only_the_answer() -> None:
    """On a slow line the answer stands behind data."""
    link = FakeLink()
    beating = Beating(link)
    for _ in range(20):
        beating.run(INTERVAL + 4 * TICK)
        link.heard_at = link.now
    assert link.asked
    assert link.cuts == []


@pytest.mark.parametrize("interval", [0.5, 3, 30, 3600])
def test_patience_is_never_shorter_than_five_seconds_nor_than_the_interval(interval: float) -> None:
    link = FakeLink()
    Beating(link, interval=interval).run(3 * interval + 20)
    ((at, _),) = link.cuts
    assert at - link.asked[0] >= max(LEAST_PATIENCE, interval)
    assert at - 1000 <= interval + max(LEAST_PATIENCE, interval) + 2 * TICK


def test_a_suspicion_is_asked_at_once_and_takes_little_patience() -> None:
    link = FakeLink()
    beating = Beating(link)
    beating.run(1)
    beating.heart.suspect(link.now)
    assert link.asked == [1001]
    beating.run(10)
    ((at, _),) = link.cuts
    assert SUSPICIOUS <= at - 1001 <= SUSPICIOUS + TICK


def test_a_suspicion_that_proves_wrong_changes_nothing() -> None:
    link = FakeLink()
    link.answers_after = 0.3
    beating = Beating(link)
    beating.heart.suspect(link.now)
    beating.run(30)
    assert link.cuts == []


def test_suspicions_in_a_row_put_nothing_off() -> None:
    """A network that changes every second: the path is dead all the same."""
    link = FakeLink()
    beating = Beating(link)
    beating.run(1)
    for _ in range(20):
        beating.heart.suspect(link.now)
        beating.run(1)
    assert link.cuts
    assert link.cuts[0][0] - 1001 <= SUSPICIOUS + TICK


def test_after_a_sleep_it_is_asked_at_once_instead_of_cut() -> None:
    """The time asleep was nobody's silence (the monotonic clock of Linux stands still, others go on)."""
    for jump in (0.0, 3600.0):
        link = FakeLink()
        beating = Beating(link)
        beating.run(INTERVAL + 2 * TICK)
        assert len(link.asked) == 1
        beating.asleep += 3600
        link.passes(jump)
        beating.heart.look(link.now)
        assert (len(link.asked), link.cuts) == (2, [])
        link.answers_after = 0.1
        beating.heart.look(link.now)
        link.heard_at = link.now
        beating.run(10)
        assert link.cuts == []


def test_after_a_sleep_a_dead_path_is_noticed_within_seconds() -> None:
    link = FakeLink()
    beating = Beating(link)
    beating.run(1)
    beating.asleep += 3600
    woken = link.now
    beating.run(10)
    assert link.cuts[0][0] - woken <= SUSPICIOUS + 2 * TICK


def test_a_process_that_stood_still_asks_instead_of_cutting() -> None:
    """It was stopped, or its machine was busy: what came meanwhile is still unread."""
    link = FakeLink()
    beating = Beating(link)
    beating.run(INTERVAL + 2 * TICK)
    assert len(link.asked) == 1
    link.passes(300)
    beating.heart.look(link.now)
    assert link.cuts == []
    assert len(link.asked) == 2
    link.heard_at = link.now
    beating.run(2)
    assert link.cuts == []


def test_a_link_that_is_cut_off_is_not_asked() -> None:
    link = FakeLink()
    beating = Beating(link)
    link.carrying = False
    beating.run(100)
    beating.heart.suspect(link.now)
    beating.asleep += 100
    beating.run(10)
    assert link.asked == link.cuts == []
    link.carrying, link.heard_at = True, link.now
    beating.run(INTERVAL - TICK)
    assert link.asked == []
    beating.run(10)
    assert len(link.asked) == 1
    assert len(link.cuts) == 1


def test_a_question_of_before_the_cut_ends_no_new_connection() -> None:
    link = FakeLink()
    beating = Beating(link)
    beating.run(INTERVAL + LEAST_PATIENCE - TICK)
    assert len(link.asked) == 1
    link.carrying = False  # the channel broke by itself
    beating.run(1)
    link.carrying, link.heard_at = True, link.now
    link.answers_after = 0.1
    beating.run(30)
    assert link.cuts == []


def test_who_may_sleep_is_asked_nothing_while_nothing_was_said() -> None:
    link = FakeLink()
    beating = Beating(link, awake=False)
    beating.run(7200)
    assert link.asked == []
    link.said_at = link.now
    beating.run(20)
    assert len(link.asked) == 1
    assert len(link.cuts) == 1


def test_who_may_sleep_and_has_answered_is_left_alone_again() -> None:
    link = FakeLink()
    beating = Beating(link, awake=False)
    beating.run(600)
    link.said_at = link.now
    link.answers_after = 0.1
    beating.run(600)
    assert len(link.asked) == 1
    assert link.cuts == []


@pytest.mark.parametrize("seed", range(30))
def test_a_living_end_is_never_cut_and_a_dead_one_always(seed: int) -> None:
    """Whatever speaks, sleeps, stands still or changes meanwhile."""
    print("seed", seed)
    rng = random.Random(seed)
    link = FakeLink()
    link.answers_after = rng.uniform(0, SUSPICIOUS - TICK)
    beating = Beating(link, awake=rng.random() < 0.8)
    for _ in range(200):
        what = rng.random()
        if what < 0.2:
            link.heard_at = link.now
        elif what < 0.4:
            link.said_at = link.now
        elif what < 0.5:
            beating.heart.suspect(link.now)
        elif what < 0.6:
            beating.asleep += rng.uniform(0, 1000)
        elif what < 0.7:
            link.passes(rng.uniform(0, 1000))
        beating.run(rng.uniform(0, 10))
    assert link.cuts == []
    link.answers_after = None
    link.passes(SUSPICIOUS)
    link.said_at, died = link.now, link.now
    beating.run(20)
    assert len(link.cuts) == 1
    assert link.cuts[0][0] - died <= INTERVAL + LEAST_PATIENCE + 2 * TICK


async def test_it_beats_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.001)
    asked = asyncio.Event()

    class Link(FakeLink):
        def ping(self) -> bool:
            asked.set()
            return True

    link = Link()
    link.heard_at = 0.0  # long ago, by the real clock
    beat = asyncio.get_running_loop().create_task(Beating(link).heart.beat())
    async with asyncio.timeout(5):
        await asked.wait()
    beat.cancel()


def test_the_system_tells_how_long_it_slept() -> None:
    assert slept() > -0.01  # two clocks are read one after the other
    assert abs(slept() - slept()) < 1
