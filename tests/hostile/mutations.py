"""An honest agent's conversation, with bytes flipped, dropped, doubled and moved by seed."""

from __future__ import annotations

import random

from .bad_control import READY
from .kinds import kind
from .wire import HELLO, PACKET, Wire, ack_frame, control_frame, frame_header, ipv4, udp

CODES = (1, 3, 5)


def conversation(wire: Wire) -> list[bytes]:
    """What an honest agent says after its setup, frame by frame."""
    mine, gateway = wire.addresses
    frames = [control_frame({**READY, "tun": wire.setup["tun"], "routes": wire.setup["routes"]})]
    for number in range(40):
        question = bytes([number, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + b"\x04test\x00\x00\x01\x00\x01"
        packet = bytes(10) + ipv4(mine, gateway, 17, udp(4000 + number, 53, question))
        frames.append(frame_header(PACKET, len(packet)) + packet)
        frames.append(next(wire.echo_requests(number * 30)))
        frames.append(ack_frame(0))
        changed = {"type": "routes_changed", "routes": wire.setup["routes"], "skipped": [], "own": []}
        frames.append(control_frame(changed))
    return frames


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Some of it otherwise."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        place = draw.randrange(len(changed))
        match draw.randrange(6):
            case 0:
                changed[place] ^= 1 << draw.randrange(8)
            case 1:
                changed[place] = draw.choice([0, 1, 0x7F, 0x80, 0xFF])
            case 2:
                del changed[place : place + draw.choice([1, 2, 4, 64])]
            case 3:
                changed[place:place] = changed[place : place + draw.choice([1, 4, 200])]
            case 4:
                changed[place:place] = draw.randbytes(draw.choice([1, 4, 32]))
            case _:
                other = draw.randrange(len(changed))
                changed[place : place + 12], changed[other : other + 12] = (
                    changed[other : other + 12], changed[place : place + 12],
                )
        if not changed:
            return data
    return bytes(changed)


@kind("mutated-hello", "says `hello` with some bytes otherwise", ends=CODES, either=True, slow=True)
def mutated_hello(wire: Wire) -> None:
    wire.begin()
    wire.flood([mutate(control_frame(HELLO), wire.random)], seconds=5)
    wire.wait_setup()
    wire.ready()
    wire.serve(0.2)


@kind("mutated", "is honest but for some bytes of what it says", ends=CODES, either=True, grace=1.0)
def mutated(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    if wire.resume:
        wire.say({"type": "error", "code": "no_bridge", "detail": "it ended"})
        return
    frames = conversation(wire)
    wire.flood(frames[:1], seconds=5)
    wire.remember()
    wire.flood([mutate(b"".join(frames[1:]), wire.random)], seconds=5)
    wire.serve(0.2)


@kind("reordered", "sends its frames in another order, some twice and some never", ends=CODES, either=True, grace=1.0)
def reordered(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    if wire.resume:
        wire.say({"type": "error", "code": "no_bridge", "detail": "it ended"})
        return
    wire.remember()
    frames = conversation(wire)
    wire.flood(wire.random.choices(frames, k=len(frames)), seconds=5)
    wire.flood(frames[:1], seconds=5)
    wire.alive()
