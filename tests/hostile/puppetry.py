"""What a peer that keeps no rule of TCP's does on connections of its own, by puppets."""

from __future__ import annotations

from .attack import Attack
from .puppets import SACK_PERMITTED, Puppet, Puppetry, sack
from .raw import ACK, PSH
from .target import SWALLOW

WINDOW = 60_000


class Holes(Puppetry):
    name = "out-of-order"
    what = "50 connections whose every second byte of a window is sent, the last ones first, and never the first"
    port = SWALLOW
    many = 50
    rate = 20_000

    def act(self, puppet: Puppet, number: int) -> None:
        at = WINDOW - 2 * (number % (WINDOW // 2)) - 1
        self.send(puppet, ACK, at=at, data=b"x")


class LargeHoles(Puppetry):
    name = "out-of-order-large"
    what = "200 connections, each with a window of data held back by one missing byte"
    port = SWALLOW
    many = 200
    rate = 10_000

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK, at=1 + number * 1400 % WINDOW, data=bytes(1400))


class TinySegments(Puppetry):
    name = "tiny-segments"
    what = "50 connections that send a byte a segment, in order"
    port = SWALLOW
    many = 50
    rate = 10_000

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK | PSH, data=b"x")
        puppet.sent += 1


class TinyMss(Puppetry):
    name = "tiny-mss"
    what = "20 downloads without end by segments of the least size (MSS 0, 1 and 48 were asked for)"

    def _open(self) -> None:
        mss = (0, 1, 48)[len(self.puppets) % 3]
        self.options = b"\2\4" + mss.to_bytes(2, "big") + SACK_PERMITTED
        super()._open()


class TinyWindows(Puppetry):
    name = "tiny-windows"
    what = "200 downloads without end into windows of 1 to 3 bytes"
    many = 200
    scaled = False
    window = 3

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            self.send(puppet, ACK, window=1 + puppet.heard % 3)

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK, window=1 + number % 3)


class ZeroWindows(Puppetry):
    name = "zero-windows"
    what = "1,000 downloads whose window is closed from the beginning, every probe answered"
    many = 1000
    scaled = False
    window = 0
    rate = 2000

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        self.send(puppet, ACK, ack=0)


class SillyWindows(Puppetry):
    name = "silly-windows"
    what = "50 downloads whose window opens and closes with each acknowledgement, and shrinks"
    many = 50
    scaled = False

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            self.send(puppet, ACK, window=(0, 100, 2000, 1)[puppet.heard % 4])

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK, window=(3000, 1, 0, 500)[number % 4])


class HugeWindows(Puppetry):
    name = "never-acknowledged"
    what = "20 downloads into a window of 8 MiB of which nothing is ever acknowledged"

    def established(self, puppet: Puppet) -> None:
        self.send(puppet, ACK, ack=0)

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        """Not a word."""


class SackNonsense(Puppetry):
    name = "sack-nonsense"
    what = "20 downloads whose acknowledgements carry SACK blocks that overlap, are inverted, empty or of nothing sent"

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            self.send(puppet, ACK, options=self.nonsense(puppet))

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK, options=self.nonsense(puppet))

    def nonsense(self, puppet: Puppet) -> bytes:
        edge = puppet.irs + puppet.received
        edges = [edge + self.random.randrange(-70_000, 70_000) for _edge in range(8)]
        return sack(list(zip(edges[::2], edges[1::2], strict=True)))


class SackHoles(Puppetry):
    name = "sack-holes"
    what = "20 downloads of which nothing is acknowledged but every other hundred bytes by SACK"

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        """By turns alone."""

    def act(self, puppet: Puppet, number: int) -> None:
        sent = max(puppet.highest, 1000)
        blocks = []
        for step in range(4):
            at = 100 + (number * 4 + step) * 200 % (sent - 200)
            blocks.append((puppet.irs + at, puppet.irs + at + 100))
        self.send(puppet, ACK, ack=0, options=sack(blocks))


class Reneging(Puppetry):
    name = "sack-reneging"
    what = "20 downloads whose every segment is reported by SACK, then forgotten, then asked for by silence"

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            highest = puppet.irs + puppet.highest
            options = sack([(puppet.irs + puppet.received // 2 + 100, highest)]) if puppet.heard % 2 else b""
            self.send(puppet, ACK, ack=puppet.received // 2, options=options)


class Dividing(Puppetry):
    name = "ack-division"
    what = "20 downloads, each segment acknowledged in 32 steps"

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            begin = max(puppet.received - size, 0)
            for step in range(1, 33):
                self.send(puppet, ACK, ack=begin + size * step // 32)


class Optimistic(Puppetry):
    name = "optimistic-acks"
    what = "20 downloads acknowledged before they were sent, and beyond"

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK, ack=puppet.received + 1400 * (1 + number % 50))


class Duplicates(Puppetry):
    name = "duplicate-acks"
    what = "20 downloads, five acknowledgements of the same for each segment and as many as fit between"

    def answer(self, puppet: Puppet, seq: int, size: int) -> None:
        if size:
            for _number in range(5):
                self.send(puppet, ACK, ack=max(puppet.received - size, 0))
            self.send(puppet, ACK)

    def act(self, puppet: Puppet, number: int) -> None:
        self.send(puppet, ACK)


class Silent(Puppetry):
    name = "handshakes"
    what = "connections that are opened in order and then never heard of again, 200 a second"
    port = SWALLOW
    rate = 200.0
    many = 1 << 30

    def finish(self) -> None:
        self.facts["left"] = len(self.puppets)
        super().finish()


PUPPETRY: list[type[Attack]] = [
    Holes, LargeHoles, TinySegments, TinyMss, TinyWindows, ZeroWindows, SillyWindows, HugeWindows, SackNonsense,
    SackHoles, Reneging, Dividing, Optimistic, Duplicates, Silent,
]  # fmt: skip
