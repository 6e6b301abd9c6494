"""Workers on TCP: HTTP by curl, big files, many connections, half-closes, resets, refusals."""

from __future__ import annotations

import hashlib
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from tests.world.addresses import CLOSED_PORT, HTTP_PORT, url

from .corp import ANSWER, RESET, STALL, content
from .workers import Worker, same

CURL = ("curl", "-sS", "--fail", "--connect-timeout", f"{STALL:g}", "--speed-limit", "1", "--speed-time", f"{STALL:g}")
"""Gives up after the time that loss does not explain, and not before."""
RESET_SEEN = 3.0
"""Seconds to wait for a reset before asking: it is sent once and may be lost."""


BIG = {4: 24_000_000, 6: 4_000_000}
"""Bytes of the big files."""


class Files:
    """Files in corp's web folder with their SHA-256."""

    def __init__(self, web: Path, scale: float) -> None:
        self.sums: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self._web = web
        for name, most in (("page", 6_000), ("picture", 300_000), ("big4", BIG[4]), ("big6", BIG[6])):
            data = content(most, int(most * scale))
            name = f"soak-{name}"
            (web / name).write_bytes(data)
            self.sums[name] = hashlib.sha256(data).hexdigest()
            self.sizes[name] = len(data)

    def remove(self) -> None:
        for name in self.sums:
            (self._web / name).unlink()


class KeepAlive(Worker):
    """Many requests over one connection."""

    name = "http keep-alive"
    requests = 40

    def step(self) -> None:
        address = f"http://{url(self.host)}:{HTTP_PORT}/small?[1-{self.requests}]"
        output = self.place.run(*CURL, "-w", "%{num_connects}\n", address).check().stdout
        wanted = "netbridge\n1\n" + "netbridge\n0\n" * (self.requests - 1)
        same(output.encode(), wanted.encode(), "answers and connections")
        self.tally.operations += self.requests
        self.tally.bytes += 10 * self.requests


class NewConnections(Worker):
    """Pages and pictures, a connection each."""

    name = "http new"
    files: ClassVar[Files]

    def pick(self) -> str:
        return self.random.choice(["soak-page", "soak-page", "soak-picture"])

    def step(self) -> None:
        name = self.pick()
        script = f"set -o pipefail; {' '.join(CURL)} 'http://{url(self.host)}/{name}' | sha256sum"
        output = self.place.run("bash", "-c", script)
        if output.check().stdout.split()[0] != self.files.sums[name]:
            raise ValueError(f"{name} came with another SHA-256")
        self.tally.operations += 1
        self.tally.bytes += self.files.sizes[name]


class Download(NewConnections):
    """A big file down, by curl."""

    name = "big file down"

    def pick(self) -> str:
        return f"soak-big{self.version}"


class HalfClose(Worker):
    """Send, shut down, and then read the sum of what was sent and a long answer."""

    name = "half-close"
    most = 100_000

    def step(self) -> None:
        self._send(self.size(self.most))

    def _send(self, size: int) -> None:
        seed = self.random.getrandbits(32)
        data = content(seed, size)
        with self.connect(command=f"TAKE {seed}") as talk:
            talk.send(data)
            talk.socket.shutdown(socket.SHUT_WR)
            line = f"{size} {hashlib.sha256(data).hexdigest()}\n".encode()
            same(talk.rest(), line + content(seed, ANSWER), "the answer after the half-close")
        self.tally.operations += 1


class Upload(HalfClose):
    """A big file up."""

    name = "big file up"

    def step(self) -> None:
        self._send(int(BIG[self.version] * self.scale))


class Echo(Worker):
    """One connection with pieces of all sizes to and fro, each waiting for the last."""

    name = "echo"
    rounds = 30

    def step(self) -> None:
        with self.connect(command="ECHO") as talk:
            for _round in range(self.rounds):
                data = self.random.randbytes(self.size(30_000))
                talk.send(data)
                same(talk.exactly(len(data)), data, "the echo")
                self.tally.operations += 1
            talk.socket.shutdown(socket.SHUT_WR)
            same(talk.rest(), b"", "after the end")


class Short(Worker):
    """Many short connections, as health checks make them."""

    name = "short"
    pause = 0.01

    def step(self) -> None:
        seed, size = self.random.getrandbits(32), self.size(3_000)
        with self.connect(command=f"GIVE {size} {seed}") as talk:
            same(talk.rest(), content(seed, size), "what a short connection brings")
        self.tally.operations += 1


class ResetByServer(Worker):
    """The server resets in mid-stream: everything before arrives, then ECONNRESET."""

    name = "reset by server"

    def step(self) -> None:
        seed, size = self.random.getrandbits(32), self.size(200_000)
        with self.connect(command=f"RESET {size} {seed}") as talk:
            same(talk.exactly(size), content(seed, size), "what came before the reset")
            talk.send(b"!")
            talk.socket.settimeout(RESET_SEEN)
            deadline = time.monotonic() + STALL
            while time.monotonic() < deadline:
                try:
                    with suppress(TimeoutError):
                        if not talk.socket.recv(1):
                            raise ValueError("the server's reset came as an orderly end")
                        raise ValueError("a byte where a reset should be")
                    talk.socket.send(b"?")  # the reset was lost, or is on its way; this is answered by another
                except (ConnectionResetError, BrokenPipeError):
                    self.tally.operations += 1
                    return
        raise TimeoutError(f"no reset within {STALL:g} s")


class ResetByClient(Worker):
    """The application resets in mid-stream; corp's server has to see an end of some kind (`Server.open` tells)."""

    name = "reset by client"

    def step(self) -> None:
        with self.connect(command="LEFT") as talk:
            talk.send(self.random.randbytes(self.size(100_000)))
            talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.tally.operations += 1


class Refused(Worker):
    """A port where nobody listens."""

    name = "refused"
    pause = 0.3

    def step(self) -> None:
        try:
            self.connect(CLOSED_PORT).socket.close()
        except ConnectionRefusedError:
            self.tally.operations += 1
        else:
            raise ValueError("a connect to a closed port worked")


class Idle:
    """One connection that says a word at the beginning and one at the end."""

    def __init__(self, worker: Echo) -> None:
        """`worker` lends its place and its tally; it is not started."""
        self._worker = worker
        self.begun = time.monotonic()
        self._talk = worker.place.inside(lambda: worker.connect(command="ECHO"))
        self._exchange(1_000)

    def _exchange(self, size: int) -> None:
        data = self._worker.random.randbytes(size)
        self._talk.send(data)
        same(self._talk.exactly(size), data, "over the idle connection")

    def end(self) -> float:
        """It still carries bytes both ways, and ends in order; how many seconds it was idle."""
        idle = time.monotonic() - self.begun
        with self._talk:
            self._exchange(60_000)
            self._talk.socket.shutdown(socket.SHUT_WR)
            same(self._talk.rest(), b"", "after the end")
        return idle


TCP_WORKERS: tuple[tuple[type[Worker], int], ...] = (
    (KeepAlive, 4), (NewConnections, 4), (Download, 2), (Upload, 2), (Echo, 4), (HalfClose, 4), (Short, 8),
    (ResetByServer, 2), (ResetByClient, 2), (Refused, 2),
)  # fmt: skip
"""How many of each; half of them over IPv4, half over IPv6."""
