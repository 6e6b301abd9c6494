"""An honest user's questions for names of corp: each has one right answer, and a wrong one would be a forger's."""

from __future__ import annotations

import os
import socket
import struct
from time import monotonic
from typing import Any

from bench.load_peer import Poll, spread

NAMES = 1000
"""Different names, asked in turn."""
RIGHT = socket.inet_aton("10.99.0.2")
PATIENCE = 2.0
"""Seconds after which a question counts as lost. It is asked once: no second try hides a loss."""


class Asking:
    """Questions by UDP to one nameserver."""

    def __init__(self, poll: Poll, resolver: str) -> None:
        self.poll = poll
        self.sock = socket.socket(socket.AF_INET6 if ":" in resolver else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect((resolver, 53))
        self.sock.setblocking(False)
        poll.add(self.sock, self.event)
        self.number = os.getpid() * 37
        self.asked = self.wrong = self.failed = self.lost = 0
        self.waiting: dict[int, float] = {}
        self.waits: list[float] = []

    def ask(self) -> None:
        """One more."""
        self.give_up()
        self.number += 1
        labels = f"n{self.number % NAMES}", "many", "corp", "test"
        name = b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"
        number = self.number & 0xFFFF
        try:
            self.sock.send(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1))
        except OSError:
            self.failed += 1
            return
        self.asked += 1
        self.waiting[number] = monotonic()

    def event(self, _events: int) -> None:
        while True:
            try:
                answer = self.sock.recv(2048)
            except BlockingIOError:
                return
            except OSError:
                self.failed += 1
                continue
            begun = self.waiting.pop(int.from_bytes(answer[:2], "big"), None)
            if begun is None:
                continue
            self.waits.append(monotonic() - begun)
            if answer[3] & 15:
                self.failed += 1
            elif not answer.endswith(RIGHT):
                self.wrong += 1

    def give_up(self) -> None:
        """Those that took too long; they are in the order of their beginning."""
        while self.waiting and next(iter(self.waiting.values())) < monotonic() - PATIENCE:
            del self.waiting[next(iter(self.waiting))]
            self.lost += 1

    def result(self) -> dict[str, Any]:
        counted = {"asked": self.asked, "wrong": self.wrong, "failed": self.failed, "lost": self.lost}
        return {**counted, **spread(self.waits)}
