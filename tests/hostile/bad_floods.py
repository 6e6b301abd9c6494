"""Floods: more of one thing than anybody sends, as fast as it is taken.

Where a machine has little time for both ends, a flood may be too slow to be one, and the session goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from .kinds import BROKE, UNREACHABLE, kind
from .wire import CONTROL, PACKET, PING, Wire, ack_frame, complain, control_frame, frame_header


def _after_start(wire: Wire, frames: Iterable[bytes], *, seconds: float = 0.0) -> None:
    wire.start()
    wire.flood(frames, seconds=seconds)
    wire.alive()


@kind("flood-packets-empty", "floods with PACKET frames that hold no packet")
def packets_empty(wire: Wire) -> None:
    _after_start(wire, itertools.repeat((frame_header(PACKET, 10) + bytes(10)) * 2000))


@kind("flood-packets-junk", "floods with packets of random bytes")
def packets_junk(wire: Wire) -> None:
    junk = wire.random.randbytes(1 << 16)
    pieces = [frame_header(PACKET, 1500) + junk[place : place + 1500] for place in range(0, 1 << 15, 97)]
    _after_start(wire, itertools.repeat(b"".join(pieces)))


@kind("flood-packets-large", "floods with the largest packets there are")
def packets_large(wire: Wire) -> None:
    _after_start(wire, itertools.repeat(frame_header(PACKET, 65535) + bytes(10) + b"\x45" + bytes(65524)))


@kind("flood-pings", "floods with PING frames", ends=BROKE, either=True)
def pings(wire: Wire) -> None:
    _after_start(wire, itertools.repeat((frame_header(PING, 8) + bytes(8)) * 4000))


@kind("flood-pings-unread", "floods with PING frames and reads no answer", ends=BROKE, either=True)
def pings_unread(wire: Wire) -> None:
    wire.start()
    wire.flood(itertools.repeat((frame_header(PING, 8) + bytes(8)) * 4000), reads=False)
    wire.alive()


@kind("flood-acks", "acknowledges the same again and again, as fast as it can", ends=BROKE, either=True)
def acks(wire: Wire) -> None:
    wire.start()
    wire.flood(itertools.repeat(ack_frame(wire.taken) * 4000))
    wire.alive()


@kind("flood-control", "floods with small CONTROL messages", ends=BROKE, either=True)
def control(wire: Wire) -> None:
    _after_start(wire, itertools.repeat(control_frame({"type": "names_changed"}) * 1000), seconds=5)


@kind("flood-control-large", "floods with CONTROL messages of a megabyte", ends=BROKE)
def control_large(wire: Wire) -> None:
    body = b'{"type":"x","a":[' + b"{}," * 340_000 + b"{}]}"
    _after_start(wire, itertools.repeat(frame_header(CONTROL, len(body)) + body))


@kind("flood-errors", "floods with reports of errors", ends=BROKE, either=True)
def errors(wire: Wire) -> None:
    report = control_frame({"type": "error", "code": "x" * 1000, "detail": "y" * 5000})
    _after_start(wire, itertools.repeat(report * 20), seconds=5)


@kind("flood-unread", "floods with packets that are to be answered, and reads nothing")
def unread(wire: Wire) -> None:
    wire.start()
    wire.flood(wire.echo_requests(1000), reads=False)
    wire.alive()


@kind("flood-banner", "prints for ever before the shell answers", ends=UNREACHABLE)
def banner(wire: Wire) -> None:
    wire.flood(itertools.repeat(b"Welcome!\n" * 1000), seconds=5)
    wire.serve()


@kind("flood-banner-later", "prints for ever between the shell's answer and the agent's", ends=UNREACHABLE)
def banner_later(wire: Wire) -> None:
    wire.shell()
    wire.flood(itertools.repeat(b"Welcome! NB:" * 1000), seconds=5)
    wire.serve()


@kind("flood-first-line", "begins its first line and never ends it", ends=UNREACHABLE)
def first_line(wire: Wire) -> None:
    wire.shell()
    wire.take_code()
    wire.flood([wire.marker()[:-1], b"x" * (1 << 20)])
    wire.serve()


@kind("flood-standard-error", "floods its standard error")
def standard_error(wire: Wire) -> None:
    wire.start()
    line = "x" * 500 + "\x1b[2J"
    for _ in range(2000):
        complain(line)
    complain("no end of a line" * 10000)
    wire.alive()
