"""Requests take turns, by service; on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from netbridge.bridge.forward.admission import LATE, Admission, Unserved
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.forward.slices import LONGEST_SLICE, PART, SLICE


class Request:
    """What the queue needs of a request."""

    def __init__(self, host: int, port: int, number: int) -> None:
        self.destination = bytes([10, 0, 0, host])
        self.destination_port = port
        self.number = number
        self.pending = True
        self.dropped = False
        self.asked_at = 0.0
        self.repeated = 0

    def drop(self) -> None:
        self.dropped = True

    def __repr__(self) -> str:
        return f"{self.destination[3]}:{self.destination_port}#{self.number}"


class Desk:
    """An admission whose every request takes `cost` seconds."""

    def __init__(self, cost: float) -> None:
        self.now = 0.0
        self.cost = cost
        self.admitted: list[Any] = []
        self.unserved: Counter[Unserved] = Counter()
        limits = Limits()
        self.queue: Admission[Any] = Admission(
            asyncio.get_running_loop(), self.admit, self.count, in_all=limits.tcp_waiting,
            per_service=limits.tcp_waiting_per_service, clock=lambda: self.now,
        )  # fmt: skip

    def admit(self, request: Any) -> None:
        self.now += self.cost
        self.admitted.append(request)

    def count(self, why: Unserved) -> None:
        self.unserved[why] += 1

    def asks(self, count: int, host: int = 1, port: int = 80) -> list[Any]:
        """`count` requests arrive in one burst; those that were turned away."""
        requests: list[Any] = [Request(host, port, number) for number in range(count)]
        return [request for request in requests if not self.queue.offer(request)]


async def test_an_ordinary_burst_is_admitted_at_once() -> None:
    desk = Desk(SLICE / 100)
    assert desk.asks(50) == []
    assert len(desk.admitted) == 50
    assert not desk.queue


async def test_what_does_not_fit_into_a_turn_waits_for_the_next() -> None:
    desk = Desk(SLICE * 0.26)
    assert desk.asks(10) == []
    for expected in (4, 8, 10):
        assert len(desk.admitted) == expected
        await asyncio.sleep(0)
    assert [request.number for request in desk.admitted] == list(range(10))
    assert not desk.queue


async def test_services_are_served_in_rotation() -> None:
    desk = Desk(SLICE * 0.6)
    desk.asks(100, host=1)
    desk.asks(1, host=1, port=443)
    desk.asks(2, host=2)
    for _ in range(3):
        await asyncio.sleep(0)
    services = [(request.destination[3], request.destination_port) for request in desk.admitted]
    assert services == [(1, 80), (1, 80), (1, 80), (1, 443), (2, 80), (1, 80), (2, 80), (1, 80)]


async def test_a_flood_of_one_service_is_turned_away_and_others_are_not() -> None:
    desk = Desk(SLICE)
    assert len(desk.asks(5000, host=1)) == 5000 - 1 - Limits().tcp_waiting_per_service
    assert desk.asks(10, host=2) == []
    assert len(desk.queue) == Limits().tcp_waiting_per_service + 10


async def test_a_scan_of_many_services_is_bounded_and_leaves_places() -> None:
    desk = Desk(SLICE)
    for _ in range(40):
        for host in range(256):
            desk.asks(1, host=host)
    assert len(desk.queue) <= Limits().tcp_waiting
    assert max(map(len, desk.queue._waiting.values())) < 40
    assert desk.asks(3, host=1, port=443) == []  # one more service


async def test_what_the_peer_took_back_costs_nothing() -> None:
    desk = Desk(SLICE)
    requests: list[Any] = [Request(1, 80, number) for number in range(3)]
    for request in requests:
        desk.queue.offer(request)
        request.pending = False
    await asyncio.sleep(0)
    assert len(desk.admitted) == 1
    assert not desk.queue


async def test_a_slice_grows_with_what_else_a_turn_takes_and_never_beyond_its_bound() -> None:
    desk = Desk(SLICE * 1.01)
    desk.asks(200)
    for other, fits in ((0.0, 1), (2.5 * SLICE / PART, 3), (100.0, round(LONGEST_SLICE / SLICE)), (0.0, 1)):
        before, desk.now = len(desk.admitted), desk.now + other
        for request in desk.queue._waiting[bytes([10, 0, 0, 1]), 80]:
            request.asked_at = desk.now
        await asyncio.sleep(0)
        assert len(desk.admitted) - before == fits, other


async def test_who_did_not_ask_again_while_it_waited_has_gone() -> None:
    desk = Desk(LONGEST_SLICE)
    requests: list[Any] = [Request(1, 80, number) for number in range(4)]
    for request in requests:
        desk.queue.offer(request)
    desk.now = 1 + LATE + 0.1
    requests[2].repeated = 1  # its second SYN came at once, the next is due after two seconds
    await asyncio.sleep(0)
    assert [request.dropped for request in requests] == [False, True, False, False]
    assert desk.admitted == [requests[0], requests[2]]
    assert desk.unserved == {Unserved.LATE: 1}
    await asyncio.sleep(0)
    assert desk.unserved == {Unserved.LATE: 2}


async def test_closing_drops_what_waits_and_asks_for_no_more_turns() -> None:
    desk = Desk(SLICE)
    requests: list[Any] = [Request(1, 80, number) for number in range(5)]
    for request in requests:
        desk.queue.offer(request)
    desk.queue.close()
    await asyncio.sleep(0)
    assert [request.dropped for request in requests] == [False, True, True, True, True]
    assert len(desk.admitted) == 1


async def test_a_syn_repeated_for_ever_and_one_that_cannot_be_decided_stop_nobody() -> None:
    desk = Desk(SLICE)
    requests: list[Any] = [Request(1, 80, number) for number in range(4)]
    requests[1].repeated = 2000
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    admit = desk.admit

    def failing(request: Any) -> None:
        admit(request)
        if request is requests[2]:
            raise OSError("no space left")

    desk.queue._admit = failing
    for request in requests:
        desk.queue.offer(request)
    for _ in range(10):
        await asyncio.sleep(0)
    assert desk.admitted == requests
    assert [request.dropped for request in requests] == [False, False, True, False]
    assert [str(complaint) for complaint in complaints] == ["no space left"]
