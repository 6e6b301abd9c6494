"""Our stack against Linux's, as client and as server, over v4 and v6, on a bad line and with options off and on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from netbridge.stack.link import Faults
from tests.stack.tcp.kernel.exchange import ECN, SACK, TIMESTAMPS, WSCALE, Ended, Line, config
from tests.world.namespace import Namespace

pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]

SIZE = 150_000
"""Bytes each way: a hundred segments, so that each kind of harm hits some."""
PATIENCE = 40.0
"""Seconds for four connections; a lost segment at the end costs a timeout or two of 0.2 s."""
OFF = {"tcp_sack": 0, "tcp_timestamps": 0, "tcp_window_scaling": 0, "tcp_ecn": 0}
ON = {"tcp_sack": 1, "tcp_timestamps": 1, "tcp_window_scaling": 1, "tcp_ecn": 1}
"""`tcp_ecn` of 1 asks for it as well as granting it."""

BAD = Faults(loss=0.02, duplicate=0.01, reorder=0.02, reorder_delay=0.005, delay=0.001)
WEATHER = {
    "fine": Faults(),
    "loss": Faults(loss=0.05, delay=0.001),
    "overtaking": Faults(reorder=0.1, reorder_delay=0.005, delay=0.001, jitter=0.001),
    "duplicates": Faults(duplicate=0.2, delay=0.001),
    "corruption": Faults(corrupt=0.03, delay=0.001),
    "narrow": Faults(rate=1_000_000, queue=30_000, delay=0.005),
}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made:
        yield made


def exchange(
    namespace: Namespace, faults: Faults, *, seed: int, size: int = SIZE, mtu: int = 1500, handshakes: int = 0
) -> list[Ended]:
    """Four connections at once: client and server, v4 and v6. The line is fine until so many stand."""

    async def run() -> list[Ended]:
        async with (
            asyncio.timeout(PATIENCE),
            Line(namespace, seed=seed, up=faults, down=faults, tcp=config(), mtu=mtu, handshakes=handshakes) as line,
        ):
            ended = await asyncio.gather(*(
                role(version, size, seed + 10 * version)
                for version in (4, 6) for role in (line.serve, line.call)
            ))  # fmt: skip
            await line.emptied()
            return ended

    return asyncio.run(run())


@pytest.mark.parametrize("weather", WEATHER)
def test_bytes_arrive_whatever_the_line_does(namespace: Namespace, weather: str) -> None:
    ended = exchange(namespace, WEATHER[weather], seed=1)
    if weather in {"loss", "corruption"}:
        assert any(one.retransmitted for one in ended), "the line harmed nothing"


ALTERNATIVES: dict[str, tuple[dict[str, int], int]] = {
    "all off": (OFF, 0),
    "sack": (OFF | {"tcp_sack": 1}, SACK),
    "timestamps": (OFF | {"tcp_timestamps": 1}, TIMESTAMPS),
    "window scaling": (OFF | {"tcp_window_scaling": 1}, WSCALE),
    "ecn": (OFF | {"tcp_ecn": 1}, ECN),
    "all on": (ON, SACK | TIMESTAMPS | WSCALE | ECN),
}
"""What is switched in the namespace, and what has to come of it."""


@pytest.mark.parametrize("which", ALTERNATIVES)
def test_each_option_by_itself(namespace: Namespace, which: str) -> None:
    sysctls, wanted = ALTERNATIVES[which]
    for name, value in sysctls.items():
        namespace.set(name, value)
    # Both stacks give up ECN for a connection whose SYN was lost (RFC 3168, section 6.1.1.1), so none is.
    for one in exchange(namespace, BAD, seed=2, size=SIZE // 2, handshakes=4):
        assert one.options == wanted


@pytest.mark.parametrize("mtu", [1280, 9000, 65520])
def test_segments_of_every_size(namespace: Namespace, mtu: int) -> None:
    exchange(namespace, BAD, seed=3, mtu=mtu)


def test_marks_of_congestion_are_understood_both_ways(namespace: Namespace) -> None:
    """RFC 3168: we echo the kernel's, it sends less and says so; and it echoes ours. Nothing is lost for it."""
    namespace.set("tcp_ecn", 1)
    for one in exchange(namespace, Faults(mark=0.05, delay=0.001), seed=4, handshakes=4):
        assert one.options & ECN
        assert one.marked
        assert not one.retransmitted
