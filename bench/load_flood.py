"""A flood of SYNs from the codespace (hping3), beside one honest user whose every byte is compared.

hping3 keeps no connection: the codespace's kernel answers each SYN-ACK with a reset, as it knows of no socket. So a SYN
to an open port costs the bridge a whole host connection, and a SYN to a black hole a place for its time-out.
"""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tests.world.addresses import BLACK_HOLE, CLOSED_PORT, CORP, HTTP_PORT

from .load_peer import FLOODED
from .load_stage import Outcome, Peer, Stage


@dataclass(frozen=True)
class Aim:
    """Where a flood goes: hping3's words."""

    about: str
    words: tuple[str, ...]


ATTACKERS = 4
OVERSLEEP = 60
"""Microseconds that hping3 takes for a packet beyond the interval it was told."""

AIMS = {
    "open": Aim("an open port", ("-p", str(FLOODED), CORP[4])),
    "closed": Aim("a closed port", ("-p", str(CLOSED_PORT), CORP[4])),
    "hole": Aim("a black hole", ("-p", str(HTTP_PORT), BLACK_HOLE[4])),
    "spread": Aim("256 silent addresses", ("-p", str(HTTP_PORT), "--rand-dest", "10.99.0.x", "-I", "{tun}")),
    "holes": Aim("256 black holes", ("-p", str(HTTP_PORT), "--rand-dest", "10.98.0.x", "-I", "{tun}")),
}


def honest(stage: Stage, seconds: float, pace: float) -> Peer:
    client = stage.client("probe", address=CORP[4], seconds=seconds, pace=pace, every=0.05)
    client.expect("probing", 30)
    return client


def attack(stage: Stage, rate: int, seconds: float, words: list[str]) -> int:
    """Send SYNs from several processes, as one hping3 sleeps too long between two; how many left."""
    interval = max(1, 1_000_000 * ATTACKERS // rate - OVERSLEEP)
    count = str(int(rate * seconds / ATTACKERS))
    # interrupted, it says how many it sent: where the machine is too busy for the rate, the time is what is kept
    argv = ["timeout", "-s", "INT", f"{seconds:g}", "hping3", "-S", "-q", "-i", f"u{interval}", "-c", count]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "enter": stage.enter}
    attackers = [  # each counts its source port up from a start of its own
        stage.machine.start(*argv, "-s", str(1024 + number * (64000 // ATTACKERS)), *words, **pipes)
        for number in range(ATTACKERS)
    ]
    sent = 0
    try:
        for attacker in attackers:
            said = attacker.popen.communicate(timeout=seconds + 30)[0].decode(errors="replace")
            found = re.search(r"(\d+) packets transmitted", said)
            assert found, f"hping3 said: {said[-300:]}"
            sent += int(found.group(1))
    finally:
        for attacker in attackers:
            attacker.kill()
    return sent


def flood(stage: Stage, aim: str, rate: int, seconds: float, pace: float = 20e6) -> Outcome:
    """`rate` SYNs a second for `seconds` to `AIMS[aim]`; the honest stream is `pace` bytes a second (0: all it can)."""
    outcome = Outcome(f"flood {aim}")
    facts = outcome.facts
    with stage.measured(outcome):
        alone = honest(stage, min(5.0, seconds / 2), pace).expect("probed", seconds + 40)
        client = honest(stage, seconds + 0.5, pace)
        dropped, at = stage.tun_sent()[1], time.monotonic()
        words = [word.format(tun=stage.tun) for word in AIMS[aim].words]
        facts["syns"] = attack(stage, rate, seconds, words)
        facts["flood_seconds"] = time.monotonic() - at
        facts["mb_at"] = round(stage.gauge.most(at), 1)
        beside: dict[str, Any] = client.expect("probed", seconds + 60)
        facts["flood_dropped"] = stage.tun_sent()[1] - dropped
        after = honest(stage, 1.0, pace).expect("probed", 40)
    facts |= {"alone": alone, "beside": beside, "after": after, "server": stage.server_says()}
    rate_seen = facts["syns"] / facts["flood_seconds"]
    for who, said in (("alone", alone), ("beside the flood", beside), ("after the flood", after)):
        trouble = said["errors"] or said["lost"] or said["wrong"]
        outcome.must(not trouble, f"honest user {who}: {said['errors']}, {said['lost']} lost, {said['wrong']} wrong")
    share = beside["megabytes_per_second"] / (alone["megabytes_per_second"] or 1)
    facts["share"] = round(share, 3)
    outcome.text = (
        f"{facts['syns']:,} SYNs to {AIMS[aim].about}, {rate_seen:,.0f}/s, TUN dropped {facts['flood_dropped']:,}; "
        f"honest stream {beside['megabytes_per_second']:.1f} MB/s of {alone['megabytes_per_second']:.1f} alone "
        f"({share:.0%}), lost {beside['lost']}, ping p50 {beside['ping'].get('p50')} p99 {beside['ping'].get('p99')} "
        f"(alone {alone['ping'].get('p50')}/{alone['ping'].get('p99')}) ms, new connection p50 "
        f"{beside['connect'].get('p50')} p99 {beside['connect'].get('p99')} max {beside['connect'].get('max')} "
        f"(alone {alone['connect'].get('p50')}/{alone['connect'].get('p99')}) ms"
    )
    return outcome
