"""The flow table."""

from __future__ import annotations

import json

from netbridge.bridge.forward.flows import Flow, FlowTable, Key, endpoint
from netbridge.stack.packet import ICMP, TCP, UDP
from tests.bridge.forward.fakes import packed


def flow(number: int, protocol: int = UDP, now: float = 0.0) -> Flow:
    key: Key = (packed("198.18.0.2"), number, packed("10.0.0.1"), 80)
    return Flow(protocol, key, "new", now)


class FakeRecycler:
    """A forwarder that can give back flows."""

    def __init__(self, table: FlowTable, *flows: Flow) -> None:
        self.table = table
        self.flows = list(flows)
        for one in flows:
            table.add(one)

    @property
    def oldest_use(self) -> float | None:
        return self.flows[0].last_used if self.flows else None

    def recycle(self) -> None:
        self.table.remove(self.flows.pop(0))


def test_the_oldest_flow_of_all_gives_way_and_tcp_never() -> None:
    table = FlowTable(10)
    table.add(flow(1, TCP))
    udp = FakeRecycler(table, flow(2, UDP, 5.0), flow(3, UDP, 9.0))
    icmp = FakeRecycler(table, flow(4, ICMP, 7.0))
    table.add_recycler(udp)
    table.add_recycler(icmp)
    left = []
    while table.make_room():
        left.append(sorted(one.source_port for one in table))
    assert left == [[1, 3, 4], [1, 3], [1]]


def test_full() -> None:
    table = FlowTable(2)
    first = flow(1)
    table.add(first)
    assert not table.full
    table.add(flow(2))
    assert table.full
    table.remove(first)
    table.remove(first)
    assert not table.full
    assert len(table) == 1


def test_the_snapshot_is_json_and_shows_the_latest() -> None:
    table = FlowTable(10)
    for number in range(5):
        table.add(flow(number, TCP if number % 2 else UDP, now=float(number)))
    snapshot = table.snapshot(10.0, most=2)
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["totals"] == {"tcp": 2, "udp": 3}
    assert [one["source"] for one in snapshot["flows"]] == ["198.18.0.2:4", "198.18.0.2:3"]
    assert snapshot["flows"][0]["idle"] == 6.0


def test_endpoint() -> None:
    assert endpoint(packed("10.0.0.1"), 80) == "10.0.0.1:80"
    assert endpoint(packed("fd00::1"), 80) == "[fd00::1]:80"


def test_repr_names_both_ends() -> None:
    assert repr(flow(7)) == "<Flow udp 198.18.0.2:7 > 10.0.0.1:80 new>"
