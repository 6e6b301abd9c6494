"""`python -m tests.simulation.throughput`: how fast one connection is, by round trip, loss and congestion control.

A table on standard output, always the same for the same code. `tests/stack/tcp/throughput.txt` is the last one that
somebody looked at.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from netbridge.stack.link.fault import Faults
from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.congestion import CongestionControl, Unlimited
from netbridge.stack.tcp.flow import Flow
from tests.simulation.clock import VirtualLoop
from tests.simulation.ends import End, Habit
from tests.simulation.network import PORT, Network, seeded
from tests.simulation.trials import CONTROLS

RATE = 12_500_000
"""Bytes a second: 100 Mbit/s."""
QUEUE = 256 * 1024
SIZE = 1_500_000
"""Bytes one way."""
ROUND_TRIPS = (0.001, 0.02, 0.1)
LOSSES = (0.0, 0.001, 0.01, 0.03)
SEED = 1


def seconds(control: type[CongestionControl], round_trip: float, loss: float) -> float:
    """Until the last of SIZE bytes was read, from the SYN on."""
    loop = VirtualLoop(3600.0)
    with seeded(SEED), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_transfer(loop, TcpConfig(congestion=control), round_trip, loss))


async def _transfer(loop: VirtualLoop, config: TcpConfig, round_trip: float, loss: float) -> float:
    random = Random(SEED)
    # Without control of congestion the path has to be one that loses nothing, as a bridge's is.
    queue = SIZE * 2 if config.congestion is Unlimited else QUEUE
    path = Faults(rate=RATE, queue=queue, delay=round_trip / 2, loss=loss)
    client, server = End(Habit(SIZE), random), _Watch(Habit(0, first=False), random)
    network = Network(loop, SEED, left=config, right=config, up=path, down=Faults(rate=RATE, delay=round_trip / 2))

    def opened(flow: Flow) -> End:
        server.flow = flow
        return server

    with network:
        network.right.tcp.listen(None, PORT, opened)
        client.flow = network.connect(client, 4)
        await loop.idle()
    assert server.received == client.sends
    return server.read_at


class _Watch(End):
    """Looks at the clock when it has read everything."""

    read_at = 0.0

    def eof_received(self) -> None:
        self.read_at = asyncio.get_running_loop().time()
        super().eof_received()


def table(control: type[CongestionControl]) -> list[str]:
    """Mbit/s, a line for each loss, a column for each round trip."""
    lines = []
    for loss in LOSSES if control is not Unlimited else (0.0,):
        rates = [SIZE * 8 / seconds(control, round_trip, loss) / 1e6 for round_trip in ROUND_TRIPS]
        lines.append(f"{control.__name__:12} {loss:5.1%} " + " ".join(f"{rate:8.1f}" for rate in rates))
    return lines


def heading() -> list[str]:
    """What the table is about."""
    return [
        f"# Mbit/s of one connection that carries {SIZE / 1e6:g} MB over {RATE * 8 / 1e6:g} Mbit/s with a queue of",
        f"# {QUEUE // 1024} KiB (Unlimited: without end): by congestion control, loss one way and round trip; opening",
        "# and slow start included.",
        "# Made anew by: .venv/bin/python -m tests.simulation.throughput >tests/stack/tcp/throughput.txt",
        f"{'control':12} {'loss':>5} " + " ".join(f"{round_trip * 1000:5g} ms" for round_trip in ROUND_TRIPS),
    ]


def main() -> int:
    print("\n".join(heading()))
    for control in (*CONTROLS, Unlimited):
        print("\n".join(table(control)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
