"""kill -9 at any moment of start, run and stop, of any process of a bridge: what is left heals at the next `up`.

Each round starts a bridge and kills one of its processes (netbridge, ssh, front, holder, guardian, sshd's half, the
first stage) at a random moment; then either it went on, or it ended with a word. After the rounds one more `up` works,
and when it has ended both machines are as before and no process is left. `make survive` plays 200 rounds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP
from tests.world.bridge import netbridge
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .test_resume import LONG
from .test_traces import assert_restored

ROUNDS = 200 if LONG else 8
GRACE = 4.0
pytestmark = [pytest.mark.net, pytest.mark.timeout(1800 if LONG else 180)]


def victims(world: World, before: Snapshot, here: Snapshot) -> list[int]:
    """Every process that the bridge brought, at both ends."""
    ends = ((world.codespace, before), (world.laptop, here))
    return [pid for machine, known in ends for pid in machine.processes() if pid not in known.pids]


def test_kill_9_at_random_moments(start: Callable[..., Bridge], world: World) -> None:
    seed = int(os.environ.get("NETBRIDGE_TEST_SEED", "1"))
    chance = random.Random(seed)
    print(f"NETBRIDGE_TEST_SEED={seed}")
    before, here = Snapshot.of(world.codespace), Snapshot.of(world.laptop)
    outcomes = {"killed": 0, "ended": 0, "went on": 0}
    for _ in range(ROUNDS):
        bridge = start(TARGET, "--ssh", chance.choice(["openssh", "asyncssh"]), "--grace", str(GRACE))
        stops = chance.random() < 0.3
        if stops:
            bridge.ready()
            bridge.program.signal(signal.SIGTERM)
            time.sleep(chance.uniform(0, 0.15))
        else:
            time.sleep(chance.uniform(0, 2.0))
        living = victims(world, before, here)
        if living:
            victim = chance.choice(living)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.5))
        if bridge.program.running and not stops:
            bridge.program.signal(signal.SIGTERM)
            outcomes["went on"] += 1
        status = bridge.ended(20)
        # SIGTERM ends a program that is past its own end, or not yet begun.
        assert status in {0, 1, 3, -signal.SIGKILL, 137, -signal.SIGTERM}, bridge.said
        assert "Traceback" not in bridge.said, bridge.said
        outcomes["killed" if status in {-signal.SIGKILL, 137} else "ended"] += 1
    print(outcomes)
    again = start(TARGET, "--ssh", "openssh").ready()
    assert world.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/").check().stdout
    assert again.stop() == 0
    netbridge(world.laptop, "status").check()  # whoever looks next removes dead bridges' numbers
    assert_restored(before, world.codespace, GRACE + 5)
    assert_restored(here, world.laptop)
