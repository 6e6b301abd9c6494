"""Flows as people look at them, without sockets: rates, order, filter, and those that just ended."""

from __future__ import annotations

import itertools
import time

import pytest

from netbridge.bridge.dns import Questions
from netbridge.bridge.forward.flows import Flow, FlowTable
from netbridge.bridge.sampling import LINGER, SORTS, Sampler
from netbridge.stack.packet import TCP, UDP


class World:
    """A table whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.table = FlowTable(1000)
        self.sampler = Sampler(self.table, Questions(), itertools.count(1), lambda: self.now)

    def flow(self, host: int, protocol: int = TCP, state: str = "open") -> Flow:
        flow = Flow(protocol, (bytes((198, 18, 0, 2)), 40000 + host, bytes((10, 20, 0, host)), 80), state, self.now)
        self.table.add(flow)
        return flow

    def moves(self, flow: Flow, up: int = 0, down: int = 0) -> None:
        flow.bytes_up += up
        flow.bytes_down += down
        flow.last_used = self.now

    def look(self, after: float = 1.0) -> None:
        self.now += after
        self.sampler.look()

    def order(
        self, sort: str = "rate", *, reverse: bool = False, words: tuple[str, ...] = (), rows: int = 10,
    ) -> list[int]:
        """The last octets of the destinations."""
        top, self.count = self.sampler.top(rows, sort, reverse=reverse, words=words)
        return [seen.flow.destination[3] for seen in top]


@pytest.fixture(name="world")
def small_world() -> World:
    return World()


def test_a_rate_follows_what_moves_and_sinks_when_nothing_does(world: World) -> None:
    flow = world.flow(1)
    world.moves(flow, up=5_000_000)
    world.look()
    (seen,), _ = world.sampler.top(1, "rate", reverse=False, words=())
    assert seen.rate_up == 0, "what was carried before anybody looked is no rate"
    for _ in range(6):
        world.moves(flow, up=1000, down=500)
        world.look()
    assert seen.rate_up == pytest.approx(1000, rel=0.05)
    assert seen.rate_down == pytest.approx(500, rel=0.05)
    for _ in range(20):
        world.look()
    assert (seen.rate_up, seen.rate_down) == (0, 0)


def test_busy_ones_stand_first_then_the_latest_used(world: World) -> None:
    old, busy, middle, busier = (world.flow(number) for number in (1, 2, 3, 4))
    world.look()
    world.moves(middle)
    world.look()
    world.moves(busy, up=10_000)
    world.moves(busier, down=90_000)
    world.look()
    assert world.order() == [4, 2, 3, 1]
    assert world.order(reverse=True)[0] == 1
    assert world.order(rows=2) == [4, 2]
    assert world.count == 4
    assert old.state == "open"


@pytest.mark.parametrize(("sort", "first"), [
    ("bytes", 3), ("newest", 3), ("age", 1), ("idle", 1), ("destination", 1), ("state", 2),
])
def test_every_order(world: World, sort: str, first: int) -> None:
    for number, state in ((1, "open"), (2, "connecting"), (3, "open")):
        world.look()
        world.moves(world.flow(number, state=state), up=number)
    world.look()
    assert world.order(sort)[0] == first
    assert world.order(sort, reverse=True)[0] != first
    assert sort in SORTS


def test_a_filter_wants_all_words_anywhere(world: World) -> None:
    world.flow(7)
    world.flow(8, UDP)
    world.look()
    assert world.order(words=("udp",)) == [8]
    assert world.order(words=("tcp", "10.20.0.7:80", "open")) == [7]
    assert world.order(words=("tcp", "10.20.0.8")) == []
    assert world.count == 0


def test_a_flow_that_ended_is_shown_for_a_while_even_if_nobody_saw_it_live(world: World) -> None:
    known = world.flow(1)
    world.look()
    world.table.remove(known)
    short = world.flow(2, UDP)
    world.moves(short, up=70, down=30)
    world.table.remove(short)
    world.look()
    world.flow(3)
    world.look(0.0)
    assert world.order() == [3, 2, 1], "those that live stand first"
    assert world.order(words=("closed", "udp")) == [2]
    (seen,), _ = world.sampler.top(1, "rate", reverse=False, words=("udp",))
    row = world.sampler.row(seen)
    assert (row["state"], row["bytes_up"], row["bytes_down"]) == ("closed", 70, 30)
    assert world.sampler.counts == {"tcp": 1}
    assert world.sampler.others == [70, 30]
    world.look(LINGER + 1)
    assert world.order() == [3]


def test_numbers_stay_and_rows_are_the_same_until_something_changes(world: World) -> None:
    flow = world.flow(1)
    world.look()
    (seen,), _ = world.sampler.top(1, "rate", reverse=False, words=())
    row = world.sampler.row(seen)
    world.look()
    assert world.sampler.row(seen) is row
    world.moves(flow, up=1)
    world.look()
    assert world.sampler.row(seen) is not row
    assert world.sampler.row(seen)["number"] == row["number"]
    assert world.sampler.find(row["number"]) is seen


def test_closed_it_hears_of_nothing(world: World) -> None:
    flow = world.flow(1)
    world.look()
    world.sampler.close()
    world.table.remove(flow)
    assert world.table.totals == {}
    assert world.table.on_removed is None


@pytest.mark.alone
def test_a_look_at_five_thousand_flows_costs_some_milliseconds() -> None:
    world = World()
    for number in range(5000):
        flow = world.flow(number % 250)
        flow.last_used += number / 1000
    world.look()
    costs = []
    for _ in range(20):
        world.now += 0.25
        before = time.thread_time()
        world.sampler.look()
        world.order(rows=100)
        costs.append(time.thread_time() - before)
    print(f"a look at 5,000 flows: {sorted(costs)[10] * 1e3:.2f} ms")
    assert sorted(costs)[10] < 0.01
