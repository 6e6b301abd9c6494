"""Checksums of injected packets."""

from __future__ import annotations

import random

import pytest

from netbridge.bridge.agent.packetinject import summed
from netbridge.stack.checksum import checksum


@pytest.mark.parametrize("length", [40, 41, 1500, 1501, 65535])
def test_sum_is_finished(length: int) -> None:
    packet = bytearray(random.Random(length).randbytes(length))
    wanted = checksum(memoryview(packet)[20:])
    summed(packet, 20, 16)
    assert int.from_bytes(packet[36:38], "big") == wanted


@pytest.mark.parametrize(("start", "offset"), [(0, 16), (19, 0), (20, 19), (39, 0), (20, 65000), (65000, 16)])
def test_place_outside_the_packet(start: int, offset: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        summed(bytearray(40), start, offset)
