"""The frame of a worker: a thread in the codespace that does one kind of work again and again, and checks it.

A step raises when something went wrong; the worker notes it and goes on with the next. What is slow is no error, what
stands still is: no wait for one answer may be longer than STALL.
"""

from __future__ import annotations

import random
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from tests.world import Machine, Output
from tests.world.addresses import CORP

from .corp import CHUNK, PORT, STALL
from .gate import CONNECTS

T = TypeVar("T")

STUCK = 240.0
"""Seconds one step may take."""
MANY = 20
"""Errors a worker remembers."""


@dataclass
class Tally:
    """What all workers of one kind did."""

    steps: int = 0
    """Steps that went well."""
    operations: int = 0
    """Requests, transactions, datagrams, connections."""
    bytes: int = 0
    """Payload both ways, checked."""
    longest: float = 0.0
    """Seconds the longest step took."""
    silence: float = 0.0
    """Seconds of the longest wait for a byte, where that is measured."""
    missing: int = 0
    """Datagrams or echoes without an answer."""
    errors: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.steps += other.steps
        self.operations += other.operations
        self.bytes += other.bytes
        self.longest = max(self.longest, other.longest)
        self.silence = max(self.silence, other.silence)
        self.missing += other.missing
        self.errors += other.errors


@dataclass
class Place:
    """Where the workers are: the codespace, or a sandbox on the laptop."""

    machine: Machine
    enter: int | None = None

    def run(self, *argv: str, stdin: str = "", timeout: float = STUCK) -> Output:
        return self.machine.run(*argv, stdin=stdin, timeout=timeout, enter=self.enter)

    def inside(self, function: Callable[[], T]) -> T:
        return self.machine.inside(function, self.enter)


class Worker:
    """One worker. Subclasses say what a step is."""

    name: ClassVar[str]
    pause = 0.05
    """Seconds between two steps, so that two processors do not only run this."""

    def __init__(self, place: Place, number: int, seed: int, scale: float) -> None:
        """`scale`: how large the work's pieces are, 1 for a long soak and less for a short one."""
        self.place = place
        self.version = 4 if number % 2 == 0 else 6
        self.host = CORP[self.version]
        self.random = random.Random(f"{seed} {self.name} {number}")
        self.number = number
        self.scale = scale
        self.tally = Tally()
        self.begun = 0.0
        """When the running step began; 0 between steps."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"{self.name} {number}", daemon=True)

    def step(self) -> None:
        """Do one piece of work; raise when it went wrong."""
        raise NotImplementedError

    def finish(self) -> None:
        """Close what steps share; called once, in the worker's thread."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further step."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Wait for the running step; False when it takes longer."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stuck(self) -> bool:
        """Whether the running step takes longer than any should."""
        begun = self.begun
        return begun > 0 and time.monotonic() - begun > STUCK

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _live(self) -> None:
        try:
            self.place.inside(self._work)
        except Exception as error:
            self._failed(error)

    def _work(self) -> None:
        while not self._stop.is_set():
            self._try(self.step)
            self._stop.wait(self.pause * self.random.uniform(0.5, 1.5))
        self._try(self.finish)

    def _try(self, work: Callable[[], None]) -> None:
        begun = self.begun = time.monotonic()
        try:
            work()
            self.tally.steps += 1
        except Exception as error:
            self._failed(error)
            self._stop.wait(1)
        self.begun = 0.0
        self.tally.longest = max(self.tally.longest, time.monotonic() - begun)

    def _failed(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)
        lines = "/".join(str(frame.lineno) for frame in where if "/soak/" in frame.filename)
        at = time.strftime("%H:%M:%S")
        took = time.monotonic() - self.begun
        what = f"{at} {self.name} {self.number} (IPv{self.version}, lines {lines}, after {took:.1f} s): "
        if len(self.tally.errors) < MANY:
            self.tally.errors.append(f"{what}{type(error).__name__}: {error}"[:2000])

    # --- for the steps ------------------------------------------------------------------------------------------------

    def connect(self, port: int = PORT, command: str = "") -> Conversation:
        """A connection to corp, its first line sent."""
        begun = time.monotonic()
        with CONNECTS.passing():
            connected = socket.create_connection((self.host, port), STALL)
        talk = Conversation(connected, self.tally)
        self.tally.silence = max(self.tally.silence, time.monotonic() - begun)
        if command:
            talk.send(command.encode() + b"\n")
        return talk

    def size(self, most: int) -> int:
        """A size up to `most` bytes (scaled), small ones as likely as large ones."""
        return int(max(most * self.scale, 2) ** self.random.random())


class Conversation:
    """A connected socket that measures how long it waits."""

    def __init__(self, sock: socket.socket, tally: Tally) -> None:
        self.socket = sock
        self._tally = tally
        sock.settimeout(STALL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            begun = time.monotonic()
            sent = self.socket.send(view[:CHUNK])
            self._waited(begun)
            view = view[sent:]
            self._tally.bytes += sent

    def receive(self, size: int = CHUNK) -> bytes:
        """What is there, at least one byte; empty at the end."""
        begun = time.monotonic()
        data = self.socket.recv(size)
        self._waited(begun)
        self._tally.bytes += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        parts = []
        while size:
            data = self.receive(min(size, CHUNK))
            if not data:
                raise EOFError(f"the connection ended {size} bytes early")
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def line(self) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            data += self.exactly(1)
        return data

    def rest(self) -> bytes:
        """Everything until the end."""
        return b"".join(iter(self.receive, b""))

    def _waited(self, begun: float) -> None:
        waited = time.monotonic() - begun
        if waited > self._tally.silence:
            self._tally.silence = waited


def same(got: bytes, wanted: bytes, what: str) -> None:
    """Raise, with the place of the first difference, unless both are equal."""
    if got == wanted:
        return
    pairs = enumerate(zip(got, wanted, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(got), len(wanted)))
    around = slice(max(at - 8, 0), at + 24)
    raise ValueError(
        f"{what}: wrong bytes: {len(got)}, not {len(wanted)}; from byte {at} on "
        f"{got[around]!r} where {wanted[around]!r} should be"
    )
