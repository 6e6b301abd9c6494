"""The link protocol: frames on the byte stream between session and agent, and the accounting of what is in flight.

Layout of a frame, big-endian: type u8, length u24, payload of `length` bytes.

====  ========  ==========================================================================
type  name      payload
====  ========  ==========================================================================
1     PACKET    virtio_net_hdr (10 bytes) and one IP packet
2     CONTROL   a JSON object in UTF-8
3     ACK       u64, the PACKET payload bytes taken since the link began
4, 5  PING/PONG 8 opaque bytes, PONG repeats those of the PING
====  ========  ==========================================================================

Neither end trusts the other: an unknown type or a length outside the type's bounds raises FrameError, which ends the
link; nothing is skipped, since a stream that is wrong once cannot be trusted to be in step again.

Flow control. A sender keeps at most a window of PACKET bytes unacknowledged (:class:`~.window.SendWindow`). The
receiver acknowledges what it has taken (:class:`~.window.AckCounter`); both are in :mod:`.window`. CONTROL, ACK,
PING and PONG are outside the window.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Iterator, Tuple

PACKET, CONTROL, ACK, PING, PONG = 1, 2, 3, 4, 5

HEADER = struct.Struct(">I")
HEADER_LEN = 4
COUNT = struct.Struct(">Q")

VNET_LEN = 10
MAX_PACKET = VNET_LEN + 40 + 65535
"""The largest IPv6 packet without a jumbo option: 40 bytes of header, a 16-bit payload length (RFC 8200 section 3)."""
MAX_CONTROL = 1 << 20
"""Route lists are the largest messages: tens of thousands of prefixes fit."""

_LEAST = (0, VNET_LEN, 2, 8, 8, 8)
"""A packet may be too short for an IP header, or empty: a raw socket over there can send such, and the TUN hands them
over. That is not the agent's fault; the stack drops them."""
_MOST = (0, MAX_PACKET, MAX_CONTROL, 8, 8, 8)


class FrameError(ValueError):
    """The peer sent something that is no frame; the link has to end."""


def frame_header(kind: int, length: int) -> bytes:
    """The 4 bytes in front of a payload of `length` bytes."""
    return HEADER.pack(kind << 24 | length)


def control_frame(message: Dict[str, Any]) -> bytes:
    """A whole CONTROL frame; ValueError when the message is too large for one."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_CONTROL:
        raise ValueError("control message of %d bytes" % len(body))
    return frame_header(CONTROL, len(body)) + body


def ack_frame(total: int) -> bytes:
    """An ACK of all PACKET payload bytes up to `total`."""
    return frame_header(ACK, 8) + COUNT.pack(total)


def parse_control(payload: memoryview) -> Dict[str, Any]:
    """The message in a CONTROL frame: an object with a text `type`. Untrusted; raises FrameError."""
    try:
        message = json.loads(bytes(payload), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FrameError("control frame is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FrameError("control frame is not an object with a type")
    return message


def _refuse(word: str) -> None:
    """NaN and Infinity are Python's own (RFC 8259 section 6), and no number that is waited for or compared."""
    raise ValueError(word)


def _checked(word: int) -> Tuple[int, int]:
    kind = word >> 24
    length = word & 0xFFFFFF
    if not PACKET <= kind <= PONG:
        raise FrameError("unknown frame type %d" % kind)
    if not _LEAST[kind] <= length <= _MOST[kind]:
        raise FrameError("frame of type %d with %d bytes" % (kind, length))
    return kind, length


class Decoder:
    """Takes the stream in pieces of any size and yields (type, payload).

    A frame that lies whole in the piece is yielded as a view of it, without a copy. Only a frame cut by a piece's end
    is put together in a buffer of the decoder's own. A payload is valid until the iteration goes on.
    """

    def __init__(self) -> None:
        self._small = bytearray(HEADER_LEN + MAX_PACKET)
        self._part = self._small
        self._have = 0
        self._need = HEADER_LEN
        self._kind = 0

    def feed(self, data: memoryview) -> Iterator[Tuple[int, memoryview]]:
        """Yield the frames that `data` completes. The iterator has to be run to its end. Raises FrameError."""
        position = 0
        end = len(data)
        unpack = HEADER.unpack_from
        if self._have:
            position = self._fill(data, 0)
            if self._have < self._need:
                return
            kind, payload = self._kind, memoryview(self._part)[HEADER_LEN : self._need]
            self._reset()
            yield kind, payload
        while end - position >= HEADER_LEN:
            word = unpack(data, position)[0]
            kind = word >> 24
            after = position + HEADER_LEN + (word & 0xFFFFFF)
            if kind != PACKET or not _LEAST[PACKET] <= word & 0xFFFFFF <= MAX_PACKET:
                _checked(word)
            if after > end:
                break
            yield kind, data[position + HEADER_LEN : after]
            position = after
        if position < end:
            self._fill(data, position)

    def _fill(self, data: memoryview, position: int) -> int:
        """Copy what belongs to the cut frame; the position in `data` after it."""
        while position < len(data):
            take = min(self._need - self._have, len(data) - position)
            self._part[self._have : self._have + take] = data[position : position + take]
            self._have += take
            position += take
            if self._have < self._need or self._kind:
                break
            self._kind, length = _checked(HEADER.unpack_from(self._part)[0])
            self._need = HEADER_LEN + length
            if self._need > len(self._part):
                self._part = self._part[:HEADER_LEN] + bytearray(length)
        return position

    def _reset(self) -> None:
        self._part = self._small
        self._have = 0
        self._need = HEADER_LEN
        self._kind = 0
