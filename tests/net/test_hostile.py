"""Every attack of `tests/hostile` on a running bridge, small and several at a time, beside an honest connection whose
every byte is compared. `make hostile` measures them one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hostile.attack import Attack, Place
from tests.hostile.crowds import CROWDS
from tests.hostile.floods import FLOODS
from tests.hostile.forgeries import FORGERIES
from tests.hostile.network import ATTACKS
from tests.hostile.pieces import PIECES
from tests.hostile.puppetry import PUPPETRY
from tests.hostile.strangers import STRANGERS
from tests.world import World

from .attacker import Scene, scene
from .conftest import Bridges

pytestmark = pytest.mark.net

RATE = 250.0
"""Turns a second of each attack."""
SECONDS = 1.5


@pytest.fixture(scope="module")
def attack(bridges: Bridges, world: World) -> Iterator[Scene]:
    idle = ("udp-idle-single=1", "icmp-idle=1", "tcp-connect-timeout=2")
    with scene(bridges, world, *(word for limit in idle for word in ("--limit", limit))) as made:
        yield made


GROUPS: dict[str, tuple[list[type[Attack]], tuple[str, ...]]] = {
    "floods": (FLOODS, ("tcp.requests", "forward_tcp.refused", "forward_udp.flows_opened", "forward_icmp.flows_opened",
                        "tcp.resets_sent", "ip.malformed")),
    "pieces": (PIECES, ("ip.fragments", "fragments.contradicting")),
    "forgeries": (FORGERIES, ("tcp.challenges", "tcp.out_of_window", "icmp.errors_disbelieved", "dns.udp_queries")),
    "puppets that send": (PUPPETRY[:3], ("tcp.early", "tcp.segments_in")),
    "puppets that receive": (PUPPETRY[3:], ("tcp.opened", "tcp.segments_out")),
    "crowds": (CROWDS, ("forward_tcp.connected", "forward_tcp.resets_down", "forward_tcp.resets_up")),
    "strangers": (STRANGERS, ()),
}  # fmt: skip
"""Attacks made at the same time, and what the bridge counts then."""


def test_no_attack_is_left_out() -> None:
    assert {attack.name for group, _ in GROUPS.values() for attack in group} == set(ATTACKS)
    assert len(ATTACKS) == sum(len(group) for group, _ in GROUPS.values())  # no name twice


@pytest.mark.parametrize("name", list(GROUPS))
def test_an_honest_connection_beside(attack: Scene, name: str) -> None:
    kinds, moved = GROUPS[name]
    place = Place.of(attack.world, attack.bridge)
    attacks = [kind(place, seed=9, rate=min(kind.rate, RATE)) for kind in kinds]
    with attack.survived(*moved, growth=60):
        try:
            for one in attacks:
                one.start()
            time.sleep(SECONDS)  # it is the attack that lasts so long
            told = {one.name: one.stop() for one in attacks}
        finally:
            for one in attacks:
                one.kill()
    for one in attacks:
        said = told[one.name]
        assert said["packets"] + said["connections"] > 20, (one.name, said)
        if "victims" in said:
            assert said["victims"] > 0, (one.name, said)
