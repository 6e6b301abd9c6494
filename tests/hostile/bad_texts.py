"""Texts that a terminal would act upon, in every place where a target may say something."""

from __future__ import annotations

from typing import Any

from .kinds import LACKS, UNREACHABLE, kind
from .wire import HELLO, Wire, complain

EVIL = (
    "evil\x1b]0;owned\x07\x1b[2J\x1b[31m\x1bP1;1|17/ab\x1b\\\x9b31m\x9d0;owned\x9c\x90q\x85\x7f\x08\x0e\x00\x1bc\r\n"
    "netbridge: ready\u202aa\u202bb\u202cc\u202dd\u202ee\u2066f\u2067g\u2068h\u2069i\u200e\u200f\u2028j\u2029k"
    "\u200b\ufeff\U000e0041"
)
"""C0, DEL, C1, CSI, OSC, DCS, a reset, forged lines, changes of direction, separators, what cannot be seen."""
NET = f"10.9.0.0/16{EVIL}"


def evil(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose texts are all evil; what the session compares stays."""
    return {key: value if key in {"type", "code", "protocol", "number", "capture"} else _evil(value)
            for key, value in message.items()}


def _evil(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _evil(it) for key, it in value.items()}
    if isinstance(value, list):
        return [_evil(it) for it in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


@kind("escapes", "has escape sequences in whatever it says of itself and its networks")
def escapes(wire: Wire) -> None:
    wire.begin()
    wire.say(evil({**HELLO, "facts": {**HELLO["facts"], "bridges": []}}))
    wire.wait_setup()
    wire.say(evil({
        "type": "ready", "tun": "nb0", "offload": False, "routes": ["10.0.0.0/8"], "own": ["10.3.0.0/16"], "dns": False,
        "listen": "127.83.0.1", "capture": "packet", "dns_reason": "why", "containers": ["172.17.0.0/16"],
        "containers_reason": "why", "ssh_agent": "/tmp/x", "ssh_agent_reason": "why", "no_tun": "none",
        "sources": ["10.3.0.0/16"], "sums": True, "took": {f"TUN{EVIL}": 0.1},
        "skipped": [{"route": route, "reason": "why"} for route in wire.setup["routes"]],
    }))  # fmt: skip
    skipped = [{"route": route, "reason": f"{EVIL}"} for route in wire.setup["routes"]]
    wire.say({"type": "routes_changed", "routes": [NET], "own": [NET], "skipped": skipped})
    wire.say({"type": "error", "code": f"odd{EVIL}", "detail": EVIL})
    wire.say({"type": EVIL})
    complain(EVIL)
    wire.alive()


@kind("escapes-banner", "greets with escape sequences")
def escapes_banner(wire: Wire) -> None:
    wire.write(EVIL.encode() + b"\n")
    wire.shell()
    wire.write(EVIL.encode() + b"\n")
    wire.take_code()
    wire.write(wire.marker())
    wire.say(HELLO)
    wire.wait_setup()
    wire.ready()
    wire.alive()


@kind("escapes-no-python", "lacks what it names by escape sequences", ends=LACKS)
def escapes_no_python(wire: Wire) -> None:
    wire.shell()
    wire.take_code()
    said = EVIL.replace("\n", " ").encode()
    wire.write(wire.marker()[:-len(b"agent\n")] + b"sudo-refused " + said + b"|" + said + b"\n")
    wire.serve()


@kind("escapes-first-line", "says something else in its first line", ends=(1,))
def escapes_first_line(wire: Wire) -> None:
    wire.shell()
    wire.take_code()
    wire.write(wire.marker()[:-len(b"agent\n")] + EVIL.replace("\n", " ").encode() + b"\n")
    wire.serve()


@kind("escapes-refusal", "refuses the setup with escape sequences", ends=(1,))
def escapes_refusal(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    wire.say({"type": "error", "code": f"odd{EVIL}", "detail": EVIL})
    wire.serve()


@kind("escapes-taken-over", "was taken over by escape sequences", ends=(1,))
def escapes_taken_over(wire: Wire) -> None:
    wire.start()
    wire.say({"type": "error", "code": "taken_over", "detail": EVIL})
    wire.serve()


@kind("escapes-tun-lost", "lost its interface to escape sequences", ends=UNREACHABLE)
def escapes_tun_lost(wire: Wire) -> None:
    wire.start()
    wire.say({"type": "error", "code": "tun_lost", "detail": EVIL})
    wire.serve()


@kind("escapes-last-words", "dies with escape sequences as its last words", ends=UNREACHABLE)
def escapes_last_words(wire: Wire) -> None:
    wire.begin()
    complain(EVIL)
    raise SystemExit(3)


@kind("texts-huge", "has texts of a hundred thousand characters wherever it may say something")
def texts_huge(wire: Wire) -> None:
    huge = "x" * 100_000
    wire.begin()
    wire.say({**HELLO, "host": huge, "user": huge, "kernel": huge, "python": huge})
    wire.wait_setup()
    wire.ready(
        tun=huge, listen=huge, dns=False, dns_reason=huge, ssh_agent=huge, skipped=[{"route": huge, "reason": huge}],
        containers=[huge], containers_reason=huge,
    )
    for _ in range(5):
        wire.say({"type": "routes_changed", "skipped": [{"route": huge, "reason": huge}]})
    wire.alive()
