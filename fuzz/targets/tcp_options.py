"""Any bytes as options are read to an end, values lie within bounds, and a bare timestamp is read alike both ways."""

from __future__ import annotations

from fuzz.prefixes import prefixes
from netbridge.stack.tcp.segment import MAX_WSCALE, Options, parse_options, read_options


def run(data: bytes) -> object:
    for prefix in prefixes(data):
        _read(bytes(prefix))
    options = _read(data)
    return options.mss is not None, options.wscale, options.stamp is not None, len(options.sacks)


def _read(data: bytes) -> Options:
    options = parse_options(data)
    assert options.mss is None or 0 <= options.mss <= 0xFFFF
    assert options.wscale is None or 0 <= options.wscale <= MAX_WSCALE
    assert len(options.sacks) * 8 <= max(len(data) - 2, 0)
    assert options.stamp is None or all(0 <= number <= 0xFFFF_FFFF for number in options.stamp)
    short = read_options(data, 0, len(data))
    assert not isinstance(short, tuple) or short == options.stamp
    return options
