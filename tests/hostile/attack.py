"""One attack: as whoever starts it sees it, and as the attacking process does it.

`Attack.start` runs `python -m tests.hostile.child NAME` as root in the codespace's namespaces (or corp's), which makes
the same object there and calls `run`: `prepare` once, `turn` as often as `rate` says, `tick` each time round, `finish`
at the end. The rate is a bound: what a busy machine does not manage is not made up for. However its parent ends, so
does it.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .raw import BAD, Mouth, packed

if TYPE_CHECKING:
    from tests.world import Bridge, Machine, Program, World

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 1800.0
"""After so long an attacker ends by itself."""
BEHIND = 0.02
"""Seconds of turns that are made up for at once."""
AT_ONCE = 32
"""Turns before commands and answers are looked at."""

SERVERS: dict[int, tuple[Program, int]] = {}
"""The hostile server of each corp (by its init) and how many attacks want it."""


@dataclass(frozen=True)
class Place:
    """Where an attack happens. All but the machines is told to the attacking process."""

    tun: str
    own: dict[int, str]
    """Addresses of the codespace on the TUN, by IP version."""
    gateway: dict[int, str]
    """The bridge's."""
    corp: dict[int, str]
    """The server's."""
    laptop: dict[int, str]
    """The laptop's, as corp sees it."""
    machines: dict[str, Machine] | None = None
    """`codespace` (or where the sandbox is) and `corp`; None in the attacking process."""
    enter: int | None = None
    """The process whose namespaces are the sandbox."""

    @classmethod
    def of(cls, world: World, bridge: Bridge) -> Place:
        """Around a bridge that is ready."""
        from tests.world.addresses import CORP, LAPTOP_IN_CORP

        connected = bridge.event("connected")
        assert connected is not None
        own = {6 if ":" in it else 4: it.partition("/")[0] for it in connected["addresses"]}
        gateway = {6 if ":" in it else 4: it for it in bridge.status()["network"]["gateways"]}
        machine = world.laptop if bridge.sandbox else world.codespace
        enter = bridge.inside() if bridge.sandbox else None
        machines = {"codespace": machine, "corp": world.corp}
        return cls(connected["tun"], own, gateway, dict(CORP), dict(LAPTOP_IN_CORP), machines, enter)

    def told(self) -> str:
        """For the attacking process."""
        return json.dumps([self.tun, self.own, self.gateway, self.corp, self.laptop])

    @classmethod
    def heard(cls, text: str) -> Place:
        tun, *addresses = json.loads(text)
        own, gateway, corp, laptop = ({int(version): it for version, it in each.items()} for each in addresses)
        return cls(tun, own, gateway, corp, laptop)


class Attack:
    """One attack on one bridge. Subclasses say what it is."""

    name: ClassVar[str]
    what: ClassVar[str]
    """One sentence."""
    side: ClassVar[str] = "codespace"
    """Where the attacker is: root in the `codespace`, or a host in `corp`."""
    rate: ClassVar[float] = 20_000.0
    """Turns a second, at most."""
    needs_target: ClassVar[bool] = False
    """Whether the hostile server (:mod:`.target`) has to run in corp."""

    def __init__(self, place: Place, seed: int, rate: float | None = None) -> None:
        self.place = place
        self.seed = seed
        self.speed = rate or self.rate
        self.random = random.Random(f"{seed} {self.name}")
        self.mouths: list[Mouth] = []
        self.connections = 0
        self.facts: dict[str, Any] = {}
        """What else there is to tell."""
        self._program: Program | None = None
        self._served = False

    # --- whoever starts it --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; returns when the attack is under way."""
        if self.needs_target:
            self._serve(self._machine("corp"))
        enter = self.place.enter if self.side == "codespace" else None
        words = self.name, self.place.told(), str(self.seed), str(self.speed)
        self._program = self._run(self._machine(self.side), "child", *words, enter=enter)

    def stop(self) -> dict[str, Any]:
        """End it; what it sent: packets, bytes, connections, refused, seconds, cpu."""
        assert self._program is not None
        try:
            said, _ = self._program.popen.communicate(b"stop\n", 20)
            if not said.endswith(b"}\n"):
                raise AssertionError(f"the attack {self.name} ended early: {said!r}")
            found: dict[str, Any] = json.loads(said.splitlines()[-1])
            return found
        finally:
            self.kill()

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._program is not None:
            self._program.kill()
        if self._served:
            self._served = False
            program, users = SERVERS[corp := self._machine("corp").init]
            SERVERS[corp] = program, users - 1
            if users == 1:
                del SERVERS[corp]
                program.kill()

    def _machine(self, name: str) -> Machine:
        machines = self.place.machines
        assert machines is not None
        return machines[name]

    def _serve(self, corp: Machine) -> None:
        """The hostile server, one for all attacks on this corp."""
        program, users = SERVERS.get(corp.init) or (self._run(corp, "target", *self.place.corp.values()), 0)
        SERVERS[corp.init] = program, users + 1
        self._served = True

    def _run(self, machine: Machine, module: str, *words: str, enter: int | None = None) -> Program:
        log = machine.folder / "hostile.log"
        program = machine.start(
            sys.executable, "-u", "-m", f"tests.hostile.{module}", *words,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, log=log.name, enter=enter,
            environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        out = program.popen.stdout
        assert out is not None
        if not select.select([out], [], [], 20)[0] or os.read(out.fileno(), 6) != b"ready\n":
            program.kill()
            raise AssertionError(f"the attack {self.name} did not begin:\n{log.read_text(errors='replace')[-2000:]}")
        return program

    # --- the attacking process ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Open what is needed."""

    def turn(self, number: int) -> None:
        """Do one piece of harm."""

    def tick(self, now: float) -> None:
        """Called every few milliseconds at least."""

    def finish(self) -> None:
        """Leave nothing behind that lasts."""

    def ears(self) -> list[socket.socket]:
        """Sockets to wake up for."""
        return []

    def run(self) -> dict[str, Any]:
        """All of it; what was done."""
        self.prepare()
        sys.stdout.write("ready\n")
        begun = now = time.monotonic()
        turns = done = 0
        ears: list[Any] = [sys.stdin, *self.ears()]
        over = False
        while not over and now - begun < MOST_SECONDS:
            due = int((now - begun) * self.speed)
            turns = max(turns, due - int(self.speed * BEHIND) - 1)
            for _number in range(min(due - turns, AT_ONCE)):
                self.turn(done)
                turns += 1
                done += 1
            wait = 0.0 if turns < due else min(max((turns + 1) / self.speed - (now - begun), 0.0005), 0.005)
            awake = select.select(ears, [], [], wait)[0]
            over = sys.stdin in awake
            now = time.monotonic()
            self.tick(now)
        self.finish()
        used = os.times()
        return {
            "packets": sum(mouth.packets for mouth in self.mouths), "bytes": sum(mouth.bytes for mouth in self.mouths),
            "refused": sum(mouth.refused for mouth in self.mouths), "turns": done, "connections": self.connections,
            "seconds": round(now - begun, 2), "cpu": round(used.user + used.system, 2), **self.facts,
        }  # fmt: skip

    # --- for the subclasses -------------------------------------------------------------------------------------------

    def mouth(self, mouth: Mouth) -> Any:
        """Count what this one sends."""
        self.mouths.append(mouth)
        return mouth

    def own(self, version: int) -> bytes:
        return packed(self.place.own[version])

    def corp(self, version: int) -> bytes:
        return packed(self.place.corp[version])

    def stranger(self) -> bytes:
        """An IPv6 address of the TUN's prefix that the kernel over there does not know, so that it answers nothing."""
        return self.own(6)[:8] + BAD + self.random.randbytes(6)
