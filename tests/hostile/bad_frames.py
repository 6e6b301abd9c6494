"""Frames that are none: wrong lengths, unknown kinds, cut ones, other protocols' bytes."""

from __future__ import annotations

from netbridge.bridge.agent.frames import MAX_CONTROL, MAX_PACKET

from .kinds import BROKE, kind
from .wire import ACK, CONTROL, COUNT, PACKET, PING, PONG, Wire, ack_frame, control_frame, frame_header

LENGTHS = {
    "packet-of-no-bytes": (PACKET, 0), "packet-of-nine": (PACKET, 9), "packet-too-long": (PACKET, MAX_PACKET + 1),
    "control-of-one": (CONTROL, 1), "control-too-long": (CONTROL, MAX_CONTROL + 1),
    "control-of-16-mib": (CONTROL, 0xFFFFFF), "ack-of-seven": (ACK, 7), "ack-of-nine": (ACK, 9),
    "ping-of-none": (PING, 0), "ping-of-nine": (PING, 9), "pong-of-seven": (PONG, 7),
    "kind-0": (0, 8), "kind-6": (6, 8), "kind-255": (255, 8),
}


def _wrong(kind_: int, length: int) -> None:
    name = next(name for name, it in LENGTHS.items() if it == (kind_, length))

    @kind(f"frame-{name}", f"says a frame of kind {kind_} with {length} bytes", ends=BROKE)
    def act(wire: Wire) -> None:
        wire.start()
        wire.flood([frame_header(kind_, length), bytes(length)], seconds=5)


for _item in LENGTHS.values():
    _wrong(*_item)


@kind("bytes-random", "goes over to random bytes", ends=(*BROKE, 3), grace=1.0)
def bytes_random(wire: Wire) -> None:
    """Random bytes may happen to be a frame whose end never comes; in 64 KiB one is wrong all but certainly."""
    wire.start()
    wire.flood([b"\xff" + wire.random.randbytes(65536)], seconds=5)


@kind("bytes-zero", "goes over to zeros", ends=BROKE)
def bytes_zero(wire: Wire) -> None:
    wire.start()
    wire.flood([bytes(65536)], seconds=5)


@kind("bytes-http", "goes over to HTTP", ends=BROKE)
def bytes_http(wire: Wire) -> None:
    wire.start()
    wire.flood([b"HTTP/1.1 400 Bad Request\r\n\r\n"], seconds=5)


@kind("bytes-instead-of-hello", "speaks nonsense where `hello` is due", ends=(1, 3))
def bytes_instead_of_hello(wire: Wire) -> None:
    wire.begin()
    wire.flood([b"\xff" + wire.random.randbytes(65536)], seconds=5)


@kind("packets-before-hello", "sends packets, acknowledgements and pings before `hello`")
def packets_before_hello(wire: Wire) -> None:
    wire.begin()
    wire.flood([frame_header(PACKET, 60) + bytes(60), ack_frame(0), frame_header(PING, 8) + bytes(8)], seconds=5)
    wire.taken = 0
    wire.say_hello()
    wire.wait_setup()
    wire.ready()
    wire.alive()


@kind("ack-unsent", "acknowledges what was not sent", ends=BROKE)
def ack_unsent(wire: Wire) -> None:
    wire.start()
    wire.write(ack_frame(1 << 40))


@kind("ack-backwards", "acknowledges less than before", ends=BROKE)
def ack_backwards(wire: Wire) -> None:
    wire.start()
    wire.acknowledges = False
    wire.echo()
    wire.write(ack_frame(wire.taken) + ack_frame(0))


@kind("ack-nothing", "never acknowledges what it is sent, and asks for as much as it can")
def ack_nothing(wire: Wire) -> None:
    wire.start()
    wire.acknowledges = False
    wire.flood(wire.echo_requests(60000), seconds=wire.seconds)
    wire.acknowledges = True
    wire.write(ack_frame(wire.taken))
    wire.alive()


@kind("pong-unasked", "answers a PING that nobody sent", ends=BROKE)
def pong_unasked(wire: Wire) -> None:
    wire.start()
    wire.write(frame_header(PONG, 8) + COUNT.pack(1 << 40))


@kind("frames-replayed", "sends each of its frames a second time")
def frames_replayed(wire: Wire) -> None:
    wire.start()
    old = control_frame({"type": "hello", "protocol": 1, "facts": {}})
    old += control_frame({"type": "ready", "tun": "nb9", "routes": ["0.0.0.0/0"], "skipped": []})
    old += control_frame({"type": "resumed", "taken": 0}) + ack_frame(wire.taken)
    wire.flood([old] * 50, seconds=5)
    wire.alive()


@kind("frames-one-byte-each", "sends a byte at a time")
def frames_one_byte_each(wire: Wire) -> None:
    wire.start()
    frames = b"".join(frame_header(PACKET, 40) + bytes(40) for _ in range(20))
    wire.flood(frames[place : place + 1] for place in range(len(frames)))
    wire.alive()
