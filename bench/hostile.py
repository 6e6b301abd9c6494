"""Every attack of `tests/hostile` beside an honest user: `python bench/hostile.py [--only NAME,NAME] [--json FILE]`.

Each attack meets a bridge of its own (over openssh). The honest user alone and beside the attack take turns, `--rounds`
times, as a shared machine is never the same for long: a stream through an echo server at a steady pace whose every byte
is compared, a small ping-pong, new connections and questions for names. Then the attacker stops, and everything has to
be as before.

Needs root. Everything runs in namespaces made for it, attackers are bounded in rate. All of it comes before the other
programs of this machine unless `--shared`; the attackers, which in life are another machine, share the processors.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
sys.path.insert(1, str(ROOT / "src"))

from bench.load_stage import Outcome, Peer, Stage
from bench.priority import first_served
from bench.report import grid, write
from bench.run import machine_facts

from tests.hostile.network import ATTACKS, Attack, Place
from tests.world import Bridge, World, missing
from tests.world.addresses import CODESPACE, CORP, SSH_PORT

TARGET = f"ssh://root@{CODESPACE[4]}:{SSH_PORT}", "--ssh", "openssh"
LIMITS = ("udp-idle-single=2", "udp-idle-stream=3", "udp-idle-dns=2", "icmp-idle=2", "tcp-connect-timeout=3")
"""Flows that nobody answers end soon, so that what memory is afterwards can be seen. Nothing else is set."""
LEAST = 0.8
"""Of the honest stream beside an attack, by what it is alone."""
WARM_UP = 1.0
"""Seconds of the attack before anything is measured."""
GROWTH = 120.0
"""Megabytes more that an attack may cost at its height: `bytes-in-all` and `unread-in-all`."""
KEPT = 40.0
"""Megabytes more that may be left when it is over; the allocator keeps some."""


def resolver(stage: Stage) -> str:
    """The nameserver that programs over there ask first."""
    found = re.search(r"^nameserver (\S+)", stage.machine.run("cat", "/etc/resolv.conf").stdout, re.MULTILINE)
    assert found
    return found.group(1)


def honest(stage: Stage, seconds: float, pace: float, asked: str) -> Peer:
    client = stage.client("probe", address=CORP[4], seconds=seconds, pace=pace, every=0.05, resolver=asked)
    client.expect("probing", 30)
    return client


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Which counters grew by how much."""
    found = {}
    for room, counters in after.items():
        if isinstance(counters, dict):
            for name, value in counters.items():
                if isinstance(value, int) and (grown := value - before.get(room, {}).get(name, 0)) > 0:
                    found[f"{room}.{name}"] = grown
    return found


def besiege(stage: Stage, kind: type[Attack], seconds: float, rounds: int, pace: float, seed: int) -> Outcome:
    """One attack beside the honest user."""
    outcome = Outcome(kind.name)
    facts, gauge = outcome.facts, stage.gauge
    place, asked = Place.of(stage.world, stage.bridge), resolver(stage)
    alone: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []
    used: list[float] = []
    facts["what"] = kind.what
    with stage.measured(outcome):
        honest(stage, 1.0, pace, asked).expect("probed", 40)
        facts["mb_before"] = round(gauge.megabytes(), 1)
        counters, at = gauge.status()["counters"], time.monotonic()
        for number in range(rounds):
            alone.append(honest(stage, seconds, pace, asked).expect("probed", seconds + 40))
            attack = kind(place, seed + number)
            begun = time.monotonic()
            cpu = gauge.cpu()
            attack.start()
            try:
                time.sleep(WARM_UP)
                beside.append(honest(stage, seconds, pace, asked).expect("probed", seconds + 60))
                used.append((gauge.cpu() - cpu) / (time.monotonic() - begun))
                sent.append(attack.stop())
            finally:
                attack.kill()
        facts["mb_at"] = round(gauge.most(at), 1)
        facts["counters_moved"] = moved(counters, gauge.status()["counters"])
        after = honest(stage, min(seconds, 2.0), pace, asked).expect("probed", 40)
    facts |= {"alone": alone, "beside": beside, "after": after, "sent": sent}
    facts["share"] = round(_mean(beside) / (_mean(alone) or 1), 3)
    facts["cpu_share"] = round(statistics.mean(used), 2)
    facts["rate"] = round(sum(it["turns"] for it in sent) / sum(it["seconds"] for it in sent))
    _judge(outcome, alone, beside, after)
    outcome.text = _words(facts, alone, beside)
    return outcome


def _mean(probes: list[dict[str, Any]]) -> float:
    return statistics.fmean(it["megabytes_per_second"] for it in probes)


def _judge(outcome: Outcome, alone: list[Any], beside: list[Any], after: Any) -> None:
    facts = outcome.facts
    for who, probes in (("alone", alone), ("beside it", beside), ("after it", [after])):
        for said in probes:
            trouble = said["errors"] or said["lost"] or said["wrong"]
            outcome.must(
                not trouble, f"honest user {who}: {said['errors']}, {said['lost']} lost, {said['wrong']} wrong"
            )
            names = said["names"]
            outcome.must(not names["wrong"], f"honest user {who}: {names['wrong']} names led elsewhere")
    outcome.must(facts["share"] >= LEAST, f"goodput {facts['share']:.0%} of what it is alone")
    before = facts["mb_before"]
    outcome.must(facts["mb_at"] - before < GROWTH, f"{facts['mb_at'] - before:.0f} MB more at its height")
    outcome.must(facts["mb_after"] - before < KEPT, f"{facts['mb_after'] - before:.0f} MB more afterwards")


def _spread(probes: list[Any], what: str, mark: str) -> str:
    """The worst round's."""
    found = [it[what].get(mark) for it in probes if it[what].get(mark) is not None]
    return f"{max(found):.1f}" if found else "–"


def _words(facts: dict[str, Any], alone: list[Any], beside: list[Any]) -> str:
    names = [it["names"] for it in beside]
    return (
        f"{facts['rate']:,} a second; stream {_mean(beside):.1f} of {_mean(alone):.1f} MB/s ({facts['share']:.0%}); "
        f"ping p50 {_spread(beside, 'ping', 'p50')} p99 {_spread(beside, 'ping', 'p99')} "
        f"({_spread(alone, 'ping', 'p50')}/{_spread(alone, 'ping', 'p99')}) ms; new connections p50 "
        f"{_spread(beside, 'visit', 'p50')} p99 {_spread(beside, 'visit', 'p99')} ms; names lost "
        f"{sum(it['lost'] for it in names)} of {sum(it['asked'] for it in names)}"
    )


def table(outcomes: dict[str, Outcome]) -> str:
    """A line for each attack."""
    head = ["attack", "a second", "MB/s alone", "beside", "share", "ping p50/p99 alone", "beside", "connect p50/p99",
            "names lost", "CPU", "MB before", "most", "after"]  # fmt: skip
    rows = [head]
    for name, outcome in outcomes.items():
        facts = outcome.facts
        if "share" not in facts:
            rows.append([name, "–", *[""] * (len(head) - 2)])
            continue
        alone, beside = facts["alone"], facts["beside"]
        rows.append([
            name, f"{facts['rate']:,}", f"{_mean(alone):.1f}", f"{_mean(beside):.1f}", f"{facts['share']:.2f}",
            f"{_spread(alone, 'ping', 'p50')}/{_spread(alone, 'ping', 'p99')}",
            f"{_spread(beside, 'ping', 'p50')}/{_spread(beside, 'ping', 'p99')}",
            f"{_spread(beside, 'visit', 'p50')}/{_spread(beside, 'visit', 'p99')}",
            str(sum(it["names"]["lost"] for it in beside)), f"{facts['cpu_share']:.2f}",
            str(facts["mb_before"]), str(facts["mb_at"]), str(facts["mb_after"]),
        ])  # fmt: skip
    lines = [grid(rows), ""]
    for name, outcome in outcomes.items():
        lines.append(f"{name}: {outcome.facts.get('what', '')}")
        counted = sorted(outcome.facts.get("counters_moved", {}).items(), key=lambda it: -it[1])
        lines.append("  " + ", ".join(f"{counter} {value:,}" for counter, value in counted[:12]))
        lines += [f"  FAULT {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def run(world: World, name: str, arguments: argparse.Namespace) -> Outcome:
    """One attack on a bridge of its own."""
    limits = [word for limit in LIMITS for word in ("--limit", limit)]
    bridge = Bridge(world.laptop, *TARGET, *limits)
    stage = None
    try:
        bridge.ready()
        stage = Stage(world, bridge)
        stage.congestion = "cubic"
        pace = arguments.pace * 1e6
        return besiege(stage, ATTACKS[name], arguments.seconds, arguments.rounds, pace, arguments.seed)
    except Exception as error:
        return Outcome(name, "could not be measured", [f"{type(error).__name__}: {error}"[:1000]])
    finally:
        if stage:
            stage.close()
        bridge.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Every attack beside an honest user.")
    parser.add_argument("--only", default="", help="comma-separated names; the beginning of a name is enough")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--rounds", type=int, default=2, help="alone and beside, in turn (default 2)")
    parser.add_argument("--pace", type=float, default=20.0, help="MB/s of the honest stream (default 20; 0: all)")
    parser.add_argument("--seed", type=int, default=9, help="of what the attackers draw (default 9)")
    parser.add_argument("--shared", action="store_true", help="no priority before the attackers and other programs")
    parser.add_argument("--json", type=Path, help="where to write (default bench/results/hostile-<time>.json)")
    arguments = parser.parse_args()
    wished = [name for name in arguments.only.split(",") if name]
    chosen = [name for name in ATTACKS if not wished or any(name.startswith(wish) for wish in wished)]
    if not chosen:
        parser.error(f"no such attack; there are {', '.join(ATTACKS)}")
    if reason := missing():
        print(f"hostile: cannot measure here: {reason}", file=sys.stderr)
        return 1
    facts = machine_facts()
    outcomes: dict[str, Outcome] = {}
    with contextlib.nullcontext() if arguments.shared else first_served(), World() as world:
        world.widen_ports()
        world.know_neighbours()
        for name in chosen:
            print(f"{time.strftime('%H:%M:%S')} {name} …", file=sys.stderr, flush=True)
            outcomes[name] = outcome = run(world, name, arguments)
            print(f"  {outcome.text}", *outcome.faults, sep="\n  ", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        "machine": facts,
        "pace": arguments.pace, "seconds": arguments.seconds, "rounds": arguments.rounds, "seed": arguments.seed,
        "limits": LIMITS,
        "attacks": {name: outcome.record for name, outcome in outcomes.items()},
    }  # fmt: skip
    print(table(outcomes))
    write(result, arguments.json, "hostile-")
    return int(any(outcome.faults for outcome in outcomes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
