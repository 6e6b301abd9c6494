"""The loads: many flows, many connections, many sleepers, many black holes. Floods are in :mod:`.load_flood`.

Each takes a :class:`Stage` and sizes, and gives an :class:`Outcome`; the tests run the same with smaller sizes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.world import World

from .load_stage import Outcome, Stage


def many_flows(stage: Stage, flows: int, rate: float, seconds: float) -> Outcome:
    """`flows` at once, each with `rate` small messages a second; every echo is compared."""
    outcome = Outcome("flows")
    facts = outcome.facts
    with stage.measured(outcome):
        client = stage.client("hold", addresses=stage.addresses, flows=flows, rate=rate, seconds=seconds)
        opened = client.expect("opened", 90)
        facts["open_cpu"] = round(stage.gauge.cpu(), 2)
        at = time.monotonic()
        talked = client.expect("talked", seconds + 60)
        facts["mb_slope"] = round(stage.gauge.slope(at + seconds / 3, at + seconds), 1)
        facts["flows_at"] = stage.gauge.flows()
        facts["descriptors_at"] = stage.gauge.descriptors()
        facts["mb_at"] = round(stage.gauge.megabytes(), 1)
        client.tell("close")
        closed = client.expect("closed", 60)
    facts |= {"opened": opened, "talked": talked, "closed": closed, "server": stage.server_says()}
    outcome.must(opened["opened"] == flows, f"only {opened['opened']} of {flows} opened: {opened['errors']}")
    lost = talked["sent"] - talked["received"]
    outcome.must(not lost, f"{lost} messages lost")
    outcome.must(not talked["wrong"], f"{talked['wrong']} messages wrong")
    outcome.must(not closed["errors"], f"flows broke: {closed['errors']}")
    outcome.must(closed["finished"] == flows, f"{closed['finished']} of {flows} ended in order")
    outcome.must(facts["flows_at"] == flows, f"the table showed {facts['flows_at']} flows")
    outcome.text = (
        f"{flows:,} flows, {opened['opened'] / opened['seconds']:,.0f} opened/s, {talked['sent']:,} messages "
        f"({talked['rate']:,.0f}/s), lost {lost}, wrong {talked['wrong']}; echo p50 {talked['latency'].get('p50')} "
        f"p99 {talked['latency'].get('p99')} ms; closed in {closed['seconds']:.1f} s"
    )
    return outcome


def many_connections(stage: Stage, rate: float, seconds: float) -> Outcome:
    """`rate` new connections a second, whatever becomes of those before."""
    outcome = Outcome("connections")
    facts = outcome.facts
    with stage.measured(outcome):
        begun = time.monotonic()
        served = stage.server_says()["cpu"]
        client = stage.client("churn", addresses=stage.addresses, rate=rate, seconds=seconds)
        churned = client.expect("churned", seconds + 90)
        facts["mb_slope"] = round(stage.gauge.slope(begun + seconds / 3, begun + seconds), 1)
        facts["server_cpu"] = round(stage.server_says()["cpu"] - served, 2)
    facts |= {"churned": churned, "server": stage.server_says()}
    errors = {**churned["errors"], **({"not begun": churned["shed"]} if churned["shed"] else {})}
    outcome.must(not errors, f"connections failed: {errors}")
    outcome.must(churned["done"] == churned["begun"], f"{churned['done']} of {churned['begun']} done")
    outcome.text = (
        f"{churned['done']:,} of {churned['begun']:,} done, {churned['rate']:,.0f}/s sustained of {rate:,.0f} offered, "
        f"errors {errors or 0}; connect p50 {churned['connect'].get('p50')} p99 {churned['connect'].get('p99')} ms, "
        f"whole p50 {churned['latency'].get('p50')} p99 {churned['latency'].get('p99')} "
        f"max {churned['latency'].get('max')} ms; at once {churned['at_once']:,}; CPU client {churned['cpu']:.0f} s "
        f"server {facts['server_cpu']:.0f} s; memory {facts['mb_slope']:+.1f} MB/min"
    )
    return outcome


def sleepers(stage: Stage, flows: int, size: int, seconds: float) -> Outcome:
    """`flows` downloads nobody reads and as many uploads nobody reads, beside one honest user; then all are read."""
    outcome = Outcome("sleepers")
    facts = outcome.facts
    with small_send_buffers(stage.world), stage.measured(outcome):
        alone = stage.client("probe", address=stage.addresses[0], seconds=min(5.0, seconds / 2), pace=20e6)
        alone.expect("probing", 20)
        alone_says = alone.expect("probed", seconds + 40)
        stage.server_says("stall")
        down = stage.client("stalled", addresses=stage.addresses, flows=flows, size=size, way="down")
        up = stage.client("stalled", addresses=stage.addresses, flows=flows, size=size, way="up")
        opened = [client.expect("opened", 90) for client in (down, up)]
        facts["asleep_after"] = round(stage.calm(), 1)  # the buffers on the way are full
        at = time.monotonic()
        facts["mb_at"] = round(stage.gauge.megabytes(), 1)
        beside = stage.client("probe", address=stage.addresses[0], seconds=seconds, pace=20e6)
        beside.expect("probing", 20)
        beside_says = beside.expect("probed", seconds + 40)
        facts["mb_slope"] = round(stage.gauge.slope(at, time.monotonic()), 1)
        facts["mb_asleep"] = round(stage.gauge.most(at), 1)
        facts["flows_at"] = stage.gauge.flows()
        sinks = stage.server_says()
        stage.server_says("read")
        down.tell("read")
        up.tell("read")
        read = [client.expect("read", 120) for client in (down, up)]
    facts |= {"alone": alone_says, "beside": beside_says, "opened": opened, "read": read, "stalled_server": sinks}
    for way, said, begun in zip(("down", "up"), read, opened, strict=True):
        outcome.must(begun["opened"] == flows, f"{way}: {begun['opened']} of {flows} opened: {begun['errors']}")
        outcome.must(said["stalled"] == flows, f"{way}: only {said['stalled']} of {flows} were stalled")
        outcome.must(said["right"] == flows, f"{way}: {said['right']} of {flows} whole, {said['errors']}")
    for who, said in (("alone", alone_says), ("beside the sleepers", beside_says)):
        trouble = said["errors"] or said["lost"] or said["wrong"]
        outcome.must(not trouble, f"honest user {who}: {said['errors']}, {said['lost']} lost, {said['wrong']} wrong")
    outcome.text = (
        f"{flows:,} downloads and {flows:,} uploads of {size / 1e6:g} MB asleep; honest stream "
        f"{beside_says['megabytes_per_second']:.1f} MB/s (alone {alone_says['megabytes_per_second']:.1f}), ping p50 "
        f"{beside_says['ping'].get('p50')} p99 {beside_says['ping'].get('p99')} (alone {alone_says['ping'].get('p50')}/"
        f"{alone_says['ping'].get('p99')}) ms; memory {facts['mb_slope']:+.1f} MB/min; then read in "
        f"{max(said['seconds'] for said in read):.1f} s, whole {read[0]['right']:,} + {read[1]['right']:,}"
    )
    return outcome


@contextmanager
def small_send_buffers(world: World) -> Iterator[None]:
    """128 KB at most, not 4 or 6 MB: two thousand stalled flows would fill the memory that all TCP of a kernel shares.

    Codespace, laptop and corp are one kernel here, and beyond that memory every window shrinks, the honest flow's too.
    """
    machines, names = (world.codespace, world.laptop, world.corp), ("tcp_rmem", "tcp_wmem")
    places = [(machine, name, "4096 65536 131072") for machine in machines for name in names]
    before = []
    for machine, name, smaller in places:
        path = f"/proc/sys/net/ipv4/{name}"
        before.append((machine, path, machine.shell(f"cat {path}; echo {smaller} > {path}").check().stdout.strip()))
    try:
        yield
    finally:
        for machine, path, usual in before:
            machine.shell(f"echo {usual} > {path}").check()


def black_holes(stage: Stage, holes: int, seconds: float) -> Outcome:
    """Connects to `holes` addresses that never answer, beside an honest user with 50 new connections a second."""
    outcome = Outcome("black holes")
    facts = outcome.facts
    # 10.98.0.1 and .2 (fd98::1, ::2) answer: the laptop itself says unreachable and prohibited
    destinations = [f"10.98.0.{number + 10}" if number % 2 else f"fd98::{number + 10:x}" for number in range(holes)]
    with stage.measured(outcome):
        options = {"address": stage.addresses[0], "seconds": seconds, "bulk": False, "every": 0.02}
        alone = stage.client("probe", **options)
        alone.expect("probing", 20)
        alone_says = alone.expect("probed", seconds + 40)
        hanging = stage.client("pending", destinations=destinations)
        pending = hanging.expect("pending", 10)["pending"]
        time.sleep(0.5)
        beside = stage.client("probe", **options)
        beside.expect("probing", 20)
        beside_says = beside.expect("probed", seconds + 40)
        facts["flows_at"] = stage.gauge.flows()
        hanging.tell("close")
        still = hanging.expect("closed", 10)
        hanging.close()  # connects given up by their owner are told by nobody: the bridge's own time-out ends them
    facts |= {"alone": alone_says, "beside": beside_says, "pending": pending, "still": still}
    outcome.must(pending == holes, f"only {pending} of {holes} connects were begun")
    outcome.must(still["pending"] == holes, f"{holes - still['pending']} connects ended: {still['ends']}")
    for who, said in (("alone", alone_says), ("beside the holes", beside_says)):
        trouble = said["errors"] or said["lost"] or said["wrong"]
        outcome.must(not trouble, f"honest user {who}: {said['errors']}, {said['lost']} lost, {said['wrong']} wrong")
    outcome.text = (
        f"{holes} connects hang; new connections beside p50 {beside_says['connect'].get('p50')} "
        f"p99 {beside_says['connect'].get('p99')} max {beside_says['connect'].get('max')} ms (alone "
        f"{alone_says['connect'].get('p50')}/{alone_says['connect'].get('p99')}/{alone_says['connect'].get('max')})"
    )
    return outcome
