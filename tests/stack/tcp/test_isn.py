"""Initial sequence numbers: nobody else can guess them, and a tuple used again gets a later one (RFC 6528)."""

from __future__ import annotations

from netbridge.stack.tcp.isn import IsnGenerator
from netbridge.stack.tcp.seq import HALF, MASK


def flow(port: int) -> bytes:
    return bytes([10, 0, 0, 1, 10, 0, 0, 2]) + port.to_bytes(2, "big") + b"\0\x50"


def test_the_same_flow_gets_later_numbers_as_time_passes() -> None:
    isn = IsnGenerator()
    numbers = [isn.initial(flow(5000), seconds / 10) for seconds in range(100)]
    for earlier, later in zip(numbers, numbers[1:], strict=False):
        assert 0 < (later - earlier) & MASK < HALF


def test_flows_and_generators_have_nothing_to_do_with_each_other() -> None:
    """The space of each flow is its own, and its key is this process's: no difference is seen twice."""
    one, other = IsnGenerator(bytes(16)), IsnGenerator(bytes(range(16)))
    gaps = {(one.initial(flow(port + 1), 0.0) - one.initial(flow(port), 0.0)) & MASK for port in range(1000)}
    assert len(gaps) > 990
    assert not any(one.initial(flow(port), 0.0) == other.initial(flow(port), 0.0) for port in range(1000))
    assert IsnGenerator().initial(flow(1), 0.0) != IsnGenerator().initial(flow(1), 0.0)
    bits = [sum(one.initial(flow(port), 0.0) >> bit & 1 for port in range(2000)) for bit in range(32)]
    assert all(850 < count < 1150 for count in bits)
