"""Any virtio_net_hdr before any packet is refused with WireError or gives plain packets that carry the same payload."""

from __future__ import annotations

from fuzz.prefixes import refused_or_read
from netbridge.stack.errors import WireError
from netbridge.stack.link.offload import MIN_GSO_SIZE, finish
from netbridge.stack.link.tracer import describe
from netbridge.stack.vnet import GSO_NONE, NO_OFFLOAD, VNET


def run(data: bytes) -> object:
    refused_or_read(data, lambda prefix: finish(bytes(prefix)))
    assert "\n" not in describe(data)
    try:
        pieces = finish(data)
    except WireError as error:
        return str(error)
    assert finish(data[:10], data[10:]) == pieces
    _, gso, _, gso_size, start, _ = VNET.unpack_from(data)
    for piece in pieces:
        assert piece[:10] == NO_OFFLOAD
        assert finish(piece) == [piece]
    if gso == GSO_NONE:
        (piece,) = pieces
        changed = sum(a != b for a, b in zip(piece[10:], data[10:], strict=True))
        assert changed <= 2
        return "plain", changed > 0
    header = start + (data[10 + start + 12] >> 4) * 4
    assert gso_size >= MIN_GSO_SIZE
    assert all(len(piece) - 10 - header <= gso_size for piece in pieces)
    assert b"".join(piece[10 + header :] for piece in pieces) == data[10 + header :]
    return gso, min(len(pieces), 3)
