"""Any bytes as the options of a SYN are read to an end, and what they say lies within its bounds."""

from __future__ import annotations

from netbridge.stack.tcp.segment import MAX_WSCALE, parse_options


def run(data: bytes) -> object:
    options = parse_options(data)
    assert options.mss is None or 0 <= options.mss <= 0xFFFF
    assert options.wscale is None or 0 <= options.wscale <= MAX_WSCALE
    return options.mss is not None, options.wscale
