"""What reads bytes or text from outside, and so has to be reached by the corpus: the one list of it.

A file alone stands for all its functions; with names behind it, for those functions and classes.
"""

from __future__ import annotations

from .textparsers import TEXTS

PARSERS: dict[str, tuple[str, ...]] = {
    "stack/ipv4.py": (),
    "stack/ipv6.py": (),
    "stack/fragments.py": (),
    "stack/packet.py": (),
    "stack/icmp/wire.py": (),
    "stack/udp/wire.py": (),
    "stack/tcp/segment.py": (),
    "stack/tcp/reassembly.py": (),
    "stack/link/offload.py": (),
    "stack/link/tracer.py": ("describe",),
    "stack/link/pcapng.py": (),
    "stack/link/greeting.py": ("parse", "Greeting"),
    "stack/link/carried.py": ("CarriedLink._take",),
    "bridge/agent/frames.py": (),
    "bridge/agent/dnsmsg.py": (),
    "bridge/agent/packetcut.py": (),
    "bridge/agent/resets.py": ("answer", "segment"),
    "bridge/dns/answer.py": (),
    "bridge/dns/message.py": (),
    "bridge/dns/synthesis.py": ("host_name", "reverse_address"),
    **TEXTS,
    "bridge/capturefilter.py": (),
}
ENOUGH = 0.95
"""The part of all their lines that must be reached."""

MACHINES = ("netbridge.stack.tcp", "netbridge.stack.icmp", "netbridge.stack.udp")
"""Packages whose branches guide atheris beside those of the parsers; few, as to make one countable takes a while."""


def watched() -> list[str]:
    """The modules and packages whose branches guide atheris."""
    return [*("netbridge." + path.removesuffix(".py").replace("/", ".") for path in PARSERS), *MACHINES]
