"""Agents that fall silent, hang up, drip, or lie about what was before."""

from __future__ import annotations

import functools
from collections.abc import Callable

from .kinds import BROKE, UNREACHABLE, kind
from .wire import HELLO, PACKET, Over, Wire, ack_frame, control_frame, frame_header

STEPS: dict[str, tuple[Callable[[Wire], None], ...]] = {
    "at-once": (),
    "after-the-shell": (Wire.shell,),
    "after-the-code": (Wire.shell, Wire.take_code),
    "after-the-first-line": (Wire.begin,),
    "after-half-a-hello": (Wire.begin, lambda wire: wire.write(control_frame(HELLO)[:40])),
    "after-hello": (Wire.hello,),
    "at-setup": (Wire.hello, Wire.wait_setup),
}


def _steps(name: str, steps: tuple[Callable[[Wire], None], ...]) -> None:
    said = name.replace("-", " ")

    @kind(f"closes-{name}", f"hangs up {said}", ends=UNREACHABLE)
    def closes(wire: Wire) -> None:
        for step in steps:
            step(wire)
        raise Over

    if name != "at-once":  # the shell's patience is more than five minutes: a stopped codespace needs that long
        @kind(f"silent-{name}", f"falls silent {said}", ends=UNREACHABLE, slow=True)
        def silent(wire: Wire) -> None:
            for step in steps:
                step(wire)
            wire.deaf(3600)


for _name, _the_steps in STEPS.items():
    _steps(_name, _the_steps)


@kind("honest", "does nothing wrong: what the others are compared to")
def honest(wire: Wire) -> None:
    wire.start()
    wire.alive()


def _start_or_end(wire: Wire) -> None:
    """Up to the point where packets flow; what was resumed eight times knows of no bridge any more."""
    wire.hello()
    wire.wait_setup()
    if not wire.resume:
        wire.ready()
    elif wire.times <= 8:
        wire.answer_resume()
    else:
        wire.say({"type": "error", "code": "no_bridge", "detail": "it is enough"})
        wire.serve()


@kind(
    "closes-when-ready", "hangs up when it is ready, and again each time it is resumed", ends=UNREACHABLE, grace=1.0,
)
def closes_when_ready(wire: Wire) -> None:
    _start_or_end(wire)
    if not wire.resume:
        wire.echo()
        wire.serve(0.1)  # from then on the bridge outlives its connection
    wire.remember()
    raise Over


@kind(
    "closes-in-a-frame", "hangs up in the middle of a frame, and again each time it is resumed", ends=UNREACHABLE,
    grace=1.0,
)
def closes_in_a_frame(wire: Wire) -> None:
    _start_or_end(wire)
    if not wire.resume:
        wire.echo()
        wire.serve(0.1)  # from then on the bridge outlives its connection
    wire.remember()
    wire.write((frame_header(PACKET, 1000) + bytes(1000))[: wire.random.randrange(1, 1000)])
    raise Over


@kind(
    "silent-when-ready", "falls silent when it is ready, and again each time it is resumed", ends=UNREACHABLE,
    either=True, slow=True, grace=1.0, stopped=False,
)
def silent_when_ready(wire: Wire) -> None:
    wire.start()
    wire.remember()
    wire.deaf(3600)


@kind("drips", "says a byte every tenth of a second, never a whole message", ends=UNREACHABLE, slow=True)
def drips(wire: Wire) -> None:
    wire.begin()
    wire.honest = False
    wire.seconds = 3600.0
    wire.drip(control_frame(HELLO), 0.1)


@kind("ignores-stop", "does not confirm the stop", stopped=False)
def ignores_stop(wire: Wire) -> None:
    wire.start()
    wire.alive()
    wire.honest = False


# --- resuming -------------------------------------------------------------------------------------------------------


def _resumed(name: str, what: str, answer: Callable[[Wire], None], *, ends: tuple[int, ...], grace: float) -> None:
    @kind(f"resume-{name}", what, ends=ends, grace=grace)
    def act(wire: Wire) -> None:
        wire.hello()
        wire.wait_setup()
        if not wire.resume:
            wire.ready()
            wire.echo()
            wire.remember()
            raise Over
        answer(wire)


LIES: dict[str, object] = {
    "too-much": 1 << 50, "negative": -1, "nothing": 0, "a-text": "7", "a-list": [], "none": None, "truth": True,
    "a-fraction": 0.5, "huge": 10**400, "inside-a-packet": 7,
}
for _lie, _value in LIES.items():
    _resumed(
        f"taken-{_lie}", f"says when it is resumed that it took {_lie.replace('-', ' ')}",
        functools.partial(Wire.answer_resume, taken=_value), ends=BROKE, grace=60.0,
    )


_resumed(
    "no-bridge", "was restarted, and knows of no bridge",
    lambda wire: wire.say({"type": "error", "code": "no_bridge", "detail": "\x1b[31m"}), ends=UNREACHABLE, grace=60.0,
)
_resumed(
    "wrong-secret", "says that the secret is wrong",
    lambda wire: wire.say({"type": "error", "code": "not_resumed", "detail": "wrong secret"}), ends=UNREACHABLE,
    grace=60.0,
)
_resumed(
    "packets-first", "sends packets and acknowledgements before it says `resumed`",
    lambda wire: wire.write(frame_header(PACKET, 40) + bytes(40) + ack_frame(wire.taken)), ends=BROKE, grace=60.0,
)
_resumed(
    "setup-again", "answers `resume` with `ready`, and then only what it is asked", Wire.ready, ends=UNREACHABLE,
    grace=1.0,
)


@kind("resume-honest", "hangs up once, and is honest afterwards")
def resume_honest(wire: Wire) -> None:
    wire.start()
    if not wire.resume:
        wire.echo()
        wire.remember()
        raise Over
    wire.alive()


@kind("resume-replayed", "sends again, when it is resumed, what was taken before")
def resume_replayed(wire: Wire) -> None:
    wire.start()
    if not wire.resume:
        wire.echo()
        wire.remember()
        raise Over
    for packet in range(20):
        wire.frame(PACKET, bytes([packet]) * 60)
    wire.alive()
