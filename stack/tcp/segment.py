"""The TCP header and its options: layout, parse, emit (RFC 9293, section 3.1; RFC 7323 for window scale and timestamps;
RFC 2018 for selective acknowledgements; RFC 3168, section 6.1 for the flags of ECN).

Layout, big-endian: source port u16, destination port u16, sequence u32, acknowledgement u32, data offset and flags
u16, window u16, checksum u16, urgent pointer u16, then options up to the data offset.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..packet import Buffer

TCP_HEADER = struct.Struct("!HHIIBBHHH")
HEADER_LEN = 20
CHECKSUM_OFFSET = 16

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
URG = 0x20
ECE = 0x40
CWR = 0x80
CE = 0x100
"""No flag of TCP's header: the IP header said "congestion experienced" (RFC 3168, section 5), told with the flags."""
ECT_0 = 0x02
"""In the IP header's TOS or traffic class: mark this packet rather than drop it (RFC 3168, section 5)."""

OPT_END = 0
OPT_NOP = 1
OPT_MSS = 2
OPT_WSCALE = 3
OPT_SACK_PERMITTED = 4
OPT_SACK = 5
OPT_TIMESTAMPS = 8
OPT_USER_TIMEOUT = 28

DEFAULT_MSS_V4 = 536
DEFAULT_MSS_V6 = 1220
"""RFC 9293, section 3.7.1: what a peer takes that names no MSS."""
MIN_MSS = 88
"""A peer that names less would make us send a header for every few bytes (CVE-2019-11479)."""
MAX_WSCALE = 14
"""RFC 7323, section 2.3."""


IN_MINUTES = 0x8000
MAX_USER_TIMEOUT = 0x7FFF
"""The granularity bit and the value of the user timeout option (RFC 5482, section 3.3)."""
MAX_SACK_BLOCKS = 4
"""What fits into 40 bytes of options (RFC 2018, section 3)."""
MAX_SACK_BLOCKS_STAMPED = 3
"""And beside a timestamp."""
_BLOCK = struct.Struct("!II")

STAMPED = struct.Struct("!III")
"""The options of a segment with a timestamp and nothing else: `STAMP_LAYOUT`, TSval, TSecr."""
STAMP_LAYOUT = OPT_NOP << 24 | OPT_NOP << 16 | OPT_TIMESTAMPS << 8 | 10
"""RFC 7323, appendix A: everybody pads like this."""
STAMP_LEN = STAMPED.size

Block = tuple[int, int]
"""Left and right edge of what a receiver holds beyond its acknowledgement: first sequence number, one past the last."""


Stamp = tuple[int, int]
"""A timestamp option: TSval and TSecr (RFC 7323, section 3.2)."""


class Options:
    """What a segment's options say."""

    __slots__ = ("mss", "sack_permitted", "sacks", "stamp", "user_timeout", "wscale")

    def __init__(
        self, mss: int | None = None, wscale: int | None = None, *, sack_permitted: bool = False,
        sacks: Sequence[Block] = (), stamp: Stamp | None = None, user_timeout: int = 0,
    ) -> None:  # fmt: skip
        self.mss = mss
        """Of a SYN: largest payload the peer takes, or None."""
        self.wscale = wscale
        """Of a SYN: the peer's window shift, or None: no scaling either way."""
        self.sack_permitted = sack_permitted
        """Of a SYN: whether the peer understands SACK."""
        self.sacks = sacks
        """What the peer holds beyond its acknowledgement, the latest first; as claimed, nothing is checked yet."""
        self.stamp = stamp
        """The timestamps, or None without any."""
        self.user_timeout = user_timeout
        """Seconds after which the peer gives up what is not acknowledged (RFC 5482); 0: it does not say."""

    def __repr__(self) -> str:
        return (
            f"Options(mss={self.mss}, wscale={self.wscale}, sack={self.sack_permitted}, sacks={self.sacks},"
            f" stamp={self.stamp}, user_timeout={self.user_timeout})"
        )


def read_options(packet: Buffer, start: int, end: int) -> Options | Stamp:
    """The options in `packet[start:end]`; just the stamp when they are that and padding, which costs one unpack."""
    if end - start == STAMP_LEN:
        layout, value, echo = STAMPED.unpack_from(packet, start)
        if layout == STAMP_LAYOUT:
            return value, echo
    return parse_options(bytes(packet[start:end]))


def parse_options(options: bytes) -> Options:
    """Read a segment's options. Untrusted bytes: a length below 2 or beyond the end stops the walk."""
    found = Options()
    at, end = 0, len(options)
    while at < end:
        kind = options[at]
        if kind == OPT_END:
            break
        if kind == OPT_NOP:
            at += 1
            continue
        if at + 1 >= end:
            break
        length = options[at + 1]
        if length < 2 or at + length > end:
            break
        if kind == OPT_MSS and length == 4:
            found.mss = options[at + 2] << 8 | options[at + 3]
        elif kind == OPT_WSCALE and length == 3:
            found.wscale = min(options[at + 2], MAX_WSCALE)
        elif kind == OPT_SACK_PERMITTED and length == 2:
            found.sack_permitted = True
        elif kind == OPT_SACK and length > 2 and (length - 2) % 8 == 0:
            found.sacks = tuple(_BLOCK.iter_unpack(options[at + 2 : at + length]))
        elif kind == OPT_TIMESTAMPS and length == 10:
            found.stamp = _BLOCK.unpack_from(options, at + 2)
        elif kind == OPT_USER_TIMEOUT and length == 4:
            value = options[at + 2] << 8 | options[at + 3]
            found.user_timeout = (value & MAX_USER_TIMEOUT) * 60 if value & IN_MINUTES else value
        at += length
    return found


def emit_syn_options(
    mss: int, wscale: int | None, *, sack: bool = False, stamp: Stamp | None = None, user_timeout: float = 0.0
) -> bytes:
    """The options of our SYN or SYN-ACK, padded to whole words, in Linux's order (which has no user timeout)."""
    options = struct.pack("!BBH", OPT_MSS, 4, mss)
    if stamp is not None:
        # SACK-permitted stands where the padding of the timestamps would.
        options += bytes((OPT_SACK_PERMITTED, 2) if sack else (OPT_NOP, OPT_NOP))
        options += struct.pack("!BBII", OPT_TIMESTAMPS, 10, *stamp)
    elif sack:
        options += bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))
    if wscale is not None:
        options += struct.pack("!BBBB", OPT_NOP, OPT_WSCALE, 3, wscale)
    if user_timeout:
        seconds = max(round(user_timeout), 1)
        minutes = min(round(user_timeout / 60), MAX_USER_TIMEOUT)
        value = seconds if seconds <= MAX_USER_TIMEOUT else IN_MINUTES | minutes
        options += struct.pack("!BBH", OPT_USER_TIMEOUT, 4, value)
    return options


def emit_sacks(blocks: Sequence[Block], most: int = MAX_SACK_BLOCKS) -> bytes:
    """The SACK option with up to `most` of `blocks`, padded to whole words; empty without any."""
    if not blocks:
        return b""
    blocks = blocks[:most]
    head = bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + 8 * len(blocks)))
    return head + b"".join(_BLOCK.pack(left, right) for left, right in blocks)


def flag_names(flags: int) -> str:
    """`flags` for people: "SYN,ACK"."""
    names = (
        (SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (URG, "URG"), (ACK, "ACK"), (ECE, "ECE"), (CWR, "CWR"),
    )  # fmt: skip
    return ",".join(name for bit, name in names if flags & bit) or "none"


class Segment:
    """A segment to send: what the machine decides; addresses, ports and checksum are the emitter's work."""

    __slots__ = ("ack", "flags", "options", "payload", "seq", "tos", "window")

    def __init__(
        self, seq: int, ack: int, flags: int, window: int, payload: bytes | memoryview = b"", options: bytes = b"",
        tos: int = 0,
    ) -> None:  # fmt: skip
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        """The window field as it goes on the wire (already scaled)."""
        self.payload = payload
        self.options = options
        self.tos = tos
        """For the IP header: `ECT_0` or 0."""

    @property
    def length(self) -> int:
        """Sequence numbers the segment occupies."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def __repr__(self) -> str:
        return f"<{flag_names(self.flags)} seq={self.seq} ack={self.ack} win={self.window} len={len(self.payload)}>"
