"""The limits: their plausibility, the descriptor budget, and what happens when descriptors run out."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netbridge.bridge.forward.limits import Limits

from .test_icmp import needs_ping

ROOT = Path(__file__).parents[3]


def in_a_process(script: str) -> str:
    """What `script` prints in a Python of its own, whose limits it may lower."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BUDGET = """
import resource
from netbridge.bridge.forward.limits import Limits, descriptor_budget
resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d))
print(*descriptor_budget(Limits(**%r)), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "limits", "expected"), [
    (100, 300, {}, "148 59 29 300 300"),  # raised to the hard limit, less the reserve; of that a quarter for names
    (300, 300, {}, "148 59 29 300 300"),
    (256, 256, {}, "120 48 24 256 256"),
    # No further than needed.
    (
        100, 8000,
        {"tcp_flows": 500, "udp_flows": 300, "icmp_flows": 136, "dns_sockets": 100, "back_connections": 100},
        "936 100 100 1200 8000",
    ),
    (40, 40, {}, "20 7 3 40 40"),  # a reserve larger than the limit would leave nothing: a quarter then
])
def test_the_budget(soft: int, hard: int, limits: dict[str, int], expected: str) -> None:
    assert in_a_process(BUDGET % (soft, hard, limits)).strip() == expected


def test_limits_are_frozen_and_in_proportion() -> None:
    limits = Limits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.udp_flows = 1  # type: ignore[misc]
    assert limits.tcp_half_open_per_destination < limits.tcp_half_open <= limits.tcp_flows
    assert limits.udp_idle_dns < limits.udp_idle_single < limits.udp_idle_stream
    assert limits.bytes_per_flow < limits.bytes_in_all
    assert limits.udp_overdraft_per_turn < limits.udp_overdraft


EXHAUSTION = """
import asyncio, resource, socket, sys
import uvloop
from netbridge.bridge.forward.limits import descriptor_budget, Limits
from tests.bridge.forward.fakes import Bench, until

FLOWS = %d
resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d))

async def main():
    bench = Bench(budget=%s)
    host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host.bind(("127.0.0.1", 0))
    host.setblocking(False)
    port = host.getsockname()[1]
    largest = 0
    for number in range(FLOWS):
        bench.datagram("127.0.0.1", port, b"q", source_port=1 + number %% 65535, ttl=63 - number // 65535)
        largest = max(largest, len(bench.udp))
        assert host.recv(10) == b"q"
    # The last one is alive.
    bench.datagram("127.0.0.1", port, b"last", source_port=65535)
    data, peer = host.recvfrom(10)
    host.sendto(b"answer", peer)
    await until(lambda: bench.stack.udp.sent)
    counters = bench.table.counters.udp
    host.close()
    bench.close()
    assert counters.flows_opened == counters.flows_recycled + largest, counters
    assert counters.packets_up == FLOWS + 1, counters
    assert counters.dropped_descriptors == 0
    print(largest)

for runner in (asyncio.run, uvloop.run):
    runner(main())
"""


def test_without_descriptors_the_oldest_flow_gives_way() -> None:
    """EMFILE itself: the budget is larger than the process may open."""
    first, second = map(int, in_a_process(EXHAUSTION % (500, 64, 64, "10000")).split())
    assert 40 < first < 64
    assert 40 < second < 64


def test_fifty_thousand_one_shot_flows() -> None:
    """With `ulimit -n 256` and the budget that follows from it, nothing is refused and the reserve stays free."""
    first, second = map(int, in_a_process(EXHAUSTION % (50000, 256, 256, "descriptor_budget(Limits()).flows")).split())
    assert first == second == 120


NOTHING_LEFT = """
import asyncio, resource, socket
from tests.bridge.forward.fakes import Bench

async def main():
    bench = Bench()
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    taken = []
    try:
        while True:
            taken.append(socket.socket())
    except OSError:
        pass
    for source_port in (1, 2):
        bench.datagram("127.0.0.1", 9, b"x", source_port=source_port)
        bench.ping("127.0.0.1", source_port, 1)
    print(bench.table.counters.udp.dropped_descriptors, bench.table.counters.icmp.dropped_descriptors,
          len(bench.stack.icmp.told), len(bench.table))
    for sock in taken:
        sock.close()
    bench.datagram("127.0.0.1", 9, b"x")
    print(len(bench.udp))
    bench.close()

asyncio.run(main())
"""


@needs_ping
def test_with_nothing_to_recycle_it_drops_counts_and_recovers() -> None:
    assert in_a_process(NOTHING_LEFT).split() == ["2", "2", "0", "0", "1"]
