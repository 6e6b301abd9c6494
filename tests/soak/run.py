"""One soak: traffic, a look each few seconds, silence, and what is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.world import World

from .corp import Server
from .other_workers import OTHER_WORKERS, Bank
from .tcp_workers import TCP_WORKERS, Echo, Files, Idle, NewConnections
from .trouble import Trouble
from .watch import MEGABYTE, Watch
from .workers import STUCK, Place, Tally

BUSY = 0.005
"""Part of all datagrams whose answer may be dropped because the link was full of bulk data, as a full router would."""
LINE_EVERY = 10.0
CHECK_EVERY = 30.0

SHOWN = (
    "flows", "tcp_flows", "connecting", "handshaking", "descriptors", "tasks", "timers", "held", "unread", "blocks",
    "agent_descriptors",
)  # fmt: skip
"""Of the samples, what the table shows."""
STORMY = Path(__file__).with_name("stormy.py")


def stormy(seed: int, vitals: Path, *options: str) -> tuple[str, ...]:
    """The words in front of `up` (see `Bridge`) for a bridge in bad weather."""
    return sys.executable, str(STORMY), "--seed", str(seed), "--vitals", str(vitals), *options


def idle_options(seconds: float) -> list[str]:
    """Options for flows without connection that go after so many idle seconds, not the bridge's own 300."""
    names = ("udp-idle-single", "udp-idle-stream", "udp-idle-dns", "icmp-idle")
    return [word for name in names for word in ("--limit", f"{name}={seconds:g}")]


class Soak:
    """Traffic through one bridge that was started with `stormy`. `run` once."""

    def __init__(
        self, world: World, place: Place, watch: Watch, *, seed: int, seconds: float, scale: float = 1.0,
        patience: float, losses: bool = True, troubles: Sequence[Trouble[Any]] = (), say: Callable[[str], None] = print,
    ) -> None:
        """`seconds` of traffic in pieces of `scale`; then at most `patience` seconds until nothing is left of it.
        `losses`: the weather is meant to be bad. `troubles`: what else happens meanwhile.
        """
        self.world = world
        self.watch = watch
        self.seconds = seconds
        self.patience = patience
        self.losses = losses
        self.troubles = troubles
        self.wrong: list[str] = []
        """What went wrong, a sentence each."""
        self.drained = 0.0
        """Seconds from the end of the traffic until nothing was left."""
        self._say = say
        self._place = place
        self._seed = seed
        self._scale = scale
        self._begun = time.monotonic()
        self._line_at = (self._begun, watch.latest["bytes_up"], watch.latest["bytes_down"], 0)
        self._workers = [
            kind(place, number, seed, scale)
            for kind, count in (*TCP_WORKERS, *OTHER_WORKERS) for number in range(count)
        ]  # fmt: skip
        self._idle_workers = [Echo(place, number, seed, scale) for number in (100, 101)]

    def run(self) -> list[str]:
        """Everything; what went wrong."""
        server = Server(self.world, patience=self.patience / 5)
        NewConnections.files = Files(self.world.web, self._scale)
        try:
            bank = Bank(self.world.laptop)
            try:
                idle = [Idle(worker) for worker in self._idle_workers]
            except OSError as error:
                self._fault(f"the first connections failed: {error!r}")
                self._check()
                return self.wrong
            for worker in self._workers:
                worker.start()
            for trouble in self.troubles:
                trouble.start()
            self._wait(lambda: False, self.seconds)
            for trouble in self.troubles:
                trouble.stop()
            self._stop()
            if self.watch.dead:
                self._check()
                return self.wrong
            self._end(idle)
            self.watch.busy_until = self.watch.latest["time"]
            self._drain(server)
            self._judge(bank, server)
        finally:
            server.close()
            NewConnections.files.remove()
        return self.wrong

    def _wait(self, over: Callable[[], bool], seconds: float) -> None:
        """Look on until `over`, or `seconds` have passed, or the bridge is gone."""
        now = time.monotonic()
        end, line, check = now + seconds, now + LINE_EVERY, now + CHECK_EVERY
        while not over() and time.monotonic() < end and not self.watch.dead:
            time.sleep(0.2)
            self.watch.look()
            if time.monotonic() >= line:
                line += LINE_EVERY
                self._say(self._line())
            if time.monotonic() >= check:
                check += CHECK_EVERY
                self._check()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._wait(lambda: all(worker.join(0) for worker in self._workers), STUCK)

    def _end(self, idle: list[Idle]) -> None:
        for number, connection in enumerate(idle):
            try:
                seconds = connection.end()
                self._say(f"idle connection {number}: still carried bytes after {seconds:.0f} s")
            except Exception as error:
                self._fault(f"the connection that was idle for {time.monotonic() - connection.begun:.0f} s: {error!r}")

    def _drain(self, server: Server) -> None:
        """Wait until nothing is left."""
        begun = time.monotonic()
        self._wait(lambda: not server.open and not self.watch.remains(), self.patience)
        self.drained = time.monotonic() - begun
        if self.watch.latest["flows"] and not self.watch.dead:
            for flow in self.watch.bridge.status()["flows"]:
                self._say(f"left: {flow}")

    # --- what is wrong ------------------------------------------------------------------------------------------------

    def _fault(self, sentence: str) -> None:
        if sentence not in self.wrong:
            self.wrong.append(sentence)
            self._say(f"WRONG: {sentence}")

    def _check(self) -> None:
        """What may not be at any time."""
        for worker in self._workers:
            for error in worker.tally.errors:
                self._fault(error)
            if worker.stuck:
                self._fault(f"{worker.name} {worker.number} has been standing still for {STUCK:g} s")
        for sentence in (*self.watch.faults(), *(said for trouble in self.troubles for said in trouble.wrong)):
            self._fault(sentence)

    def _judge(self, bank: Bank, server: Server) -> None:
        self._check()
        for worker in self._workers:
            if not worker.join(0):
                self._fault(f"{worker.name} {worker.number} never ended")
        tallies = self.tallies()
        for name, tally in tallies.items():
            if not tally.operations:
                self._fault(f"{name} did nothing")
        for sentence in (*server.errors, *self.watch.remains(), *self.watch.growth()):
            self._fault(sentence)
        if server.open:
            self._fault(f"corp's server still has {server.open} connections")
        try:
            for sentence in bank.check(tallies["postgresql"].operations):
                self._fault(sentence)
        except Exception as error:
            self._fault(f"PostgreSQL could not be asked at the end: {error!r}")
        now = self.watch.latest
        for name, kind in (("udp echo", "echo"), ("udp fragments", "fragment"), ("ping", "ping")):
            missing, injected = tallies[name].missing, now["lost"].get(kind, 0)
            if missing > injected + now["busy"] and not self.troubles:  # a flood costs others their datagrams
                self._fault(f"{name}: {missing} have no answer, but only {injected} were lost on purpose")
        datagrams = sum(tallies[name].operations for name in ("udp echo", "udp fragments", "ping"))
        if now["busy"] > BUSY * datagrams and not self.troubles:
            self._fault(f"netbridge dropped {now['busy']} replies to {datagrams} datagrams because the link was busy")
        weather = [now[way][what] for way in ("up", "down") for what in ("lost", "reordered")]
        if self.losses and not all(weather):
            self._fault(f"the weather was too good: {weather} packets were lost and overtaken, up and down")

    # --- what is told -------------------------------------------------------------------------------------------------

    def tallies(self) -> dict[str, Tally]:
        """By kind of work."""
        found: dict[str, Tally] = {}
        for worker in self._workers:
            found.setdefault(worker.name, Tally()).add(worker.tally)
        return found

    def _line(self) -> str:
        now = self.watch.latest
        moment = time.monotonic()
        operations = sum(worker.tally.operations for worker in self._workers)
        before, up, down, done = self._line_at
        self._line_at = moment, now["bytes_up"], now["bytes_down"], operations
        seconds = moment - before
        errors = sum(len(worker.tally.errors) for worker in self._workers)
        age = int(moment - self._begun)
        return (
            f"{age // 60:3d}:{age % 60:02d}  up {(now['bytes_up'] - up) * 8e-6 / seconds:.1f} "
            f"down {(now['bytes_down'] - down) * 8e-6 / seconds:.1f} Mbit/s  {(operations - done) / seconds:.0f} op/s  "
            f"flows {now['flows']} (tcp {now['tcp_flows']}, half-open {now['connecting'] + now['handshaking']})  "
            f"RSS {now['rss'] / MEGABYTE:.1f} MB  fds {now['descriptors']}  tasks {now['tasks']}  "
            f"timers {now['timers']}  blocks {now['blocks'] // 1000}k  "
            f"agent {now.get('agent_rss', 0) / MEGABYTE:.1f} MB {now.get('agent_descriptors', 0)} fds  "
            f"lost {now['up']['lost']}+{now['down']['lost']}  "
            f"late {now['up']['reordered']}+{now['down']['reordered']}  "
            f"again {now.get('again_up', 0)}+{now['retransmitted']}  errors {errors}"
        )

    def table(self) -> str:
        """Everything at the end."""
        rows = [f"{'work':<16}{'steps':>8}{'done':>9}{'MB':>9}{'missing':>9}{'longest':>9}{'silence':>9}{'errors':>8}"]
        for name, tally in self.tallies().items():
            rows.append(
                f"{name:<16}{tally.steps:>8}{tally.operations:>9}{tally.bytes / MEGABYTE:>9.1f}{tally.missing:>9}"
                f"{tally.longest:>8.1f}s{tally.silence:>8.1f}s{len(tally.errors):>8}"
            )
        first, now = self.watch.samples[0], self.watch.latest
        rows += ["", f"{'':<16}{'before':>10}{'highest':>10}{'after':>10}"]
        for name in SHOWN:
            highest = max(sample.get(name, 0) for sample in self.watch.samples)
            rows.append(f"{name:<16}{first.get(name, 0):>10}{highest:>10}{now.get(name, 0):>10}")
        for name in ("rss", "agent_rss"):
            highest = max(sample.get(name, 0) for sample in self.watch.samples)
            rows.append(
                f"{name + ' (MB)':<16}{first.get(name, 0) / MEGABYTE:>10.1f}{highest / MEGABYTE:>10.1f}"
                f"{now.get(name, 0) / MEGABYTE:>10.1f}   slope {self.watch.slope(name):+.3f} MB a minute"
            )
        for way in ("up", "down"):
            counters = now[way]
            packets = counters["passed"] + counters["lost"]
            rows.append(f"{way}: {packets} packets, {counters['lost']} lost, {counters['reordered']} overtaken")
        rows += [
            f"lost, by kind: {now['lost']}; replies dropped because the link was busy: {now['busy']}",
            f"sent again: {now.get('again_up', 0)} by the codespace's kernel, {now['retransmitted']} by the stack",
            f"TCP connections: {now['opened']}; nothing left of the traffic after {self.drained:.1f} s",
        ]
        for trouble in self.troubles:
            rows += ["", *trouble.table()]
        return "\n".join(rows)
