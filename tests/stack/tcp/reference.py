"""What a segment does to a connection, straight from RFC 9293, section 3.10.7, with RFC 5961 and RFC 1337 where they
change it: a second opinion, to be read beside the RFCs. It shares no code with the stack and knows no time.

Numbers are counted from each side's initial sequence number and never wrap: 0 is the SYN. Whoever compares this with
the stack lets the real ones wrap. One segment is judged by itself: nothing was held back before it came.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Block:
    """The transmission control block (section 3.3.1): what a connection knows when the segment arrives."""

    state: str
    passive: bool = False
    """SYN-RECEIVED was reached from LISTEN."""
    snd_una: int = 0
    snd_nxt: int = 0
    max_snd_wnd: int = 0
    """The largest window the peer ever showed (RFC 5961, section 5.2)."""
    rcv_nxt: int = 0
    rcv_wnd: int = 0
    fin_sent: bool = False
    """Our FIN is the last number before SND.NXT."""


@dataclass(frozen=True)
class Arriving:
    """The segment. `ack` is None without the ACK bit."""

    seq: int
    ack: int | None = None
    syn: bool = False
    fin: bool = False
    rst: bool = False
    data: bytes = b""

    @property
    def length(self) -> int:
        """SEG.LEN."""
        return len(self.data) + self.syn + self.fin


class Sent(NamedTuple):
    """What is answered: "ACK", "RST", "RST,ACK" or "SYN,ACK", its number, and what it acknowledges."""

    flags: str
    seq: int
    ack: int | None = None


@dataclass(frozen=True)
class Answer:
    """What becomes of it."""

    state: str
    sent: Sent | None = None
    data: bytes = b""
    """What is delivered to the user now."""
    signal: str = ""
    """What the user is told of the end: "reset", "refused", or "closing" for the peer's FIN."""


def arrives(block: Block, segment: Arriving) -> Answer:
    """The answer to `segment` in the state of `block`."""
    if block.state == "CLOSED":
        return _in_closed(segment)
    if block.state == "LISTEN":
        return _in_listen(segment)
    if block.state == "SYN-SENT":
        return _in_syn_sent(block, segment)
    return _otherwise(block, segment)


def _in_closed(segment: Arriving) -> Answer:
    """Section 3.10.7.1."""
    if segment.rst:
        return Answer("CLOSED")
    if segment.ack is None:
        return Answer("CLOSED", Sent("RST,ACK", 0, segment.seq + segment.length))
    return Answer("CLOSED", Sent("RST", segment.ack))


def _in_listen(segment: Arriving) -> Answer:
    """Section 3.10.7.2."""
    if segment.rst:
        return Answer("LISTEN")
    if segment.ack is not None:
        return Answer("LISTEN", Sent("RST", segment.ack))
    if segment.syn:
        # Other controls and text are queued for later.
        return Answer("SYN-RECEIVED", Sent("SYN,ACK", 0, segment.seq + 1))
    return Answer("LISTEN")


def _in_syn_sent(block: Block, segment: Arriving) -> Answer:
    """Section 3.10.7.3."""
    stays = Answer(block.state)
    # First, the ACK: ISS < SEG.ACK =< SND.NXT.
    if segment.ack is not None and not 0 < segment.ack <= block.snd_nxt:
        return stays if segment.rst else Answer(block.state, Sent("RST", segment.ack))
    # Second, the RST: only with an acceptable ACK.
    if segment.rst:
        return stays if segment.ack is None else Answer("CLOSED", signal="refused")
    # Fourth, the SYN.
    if not segment.syn:
        return stays
    block = replace(block, rcv_nxt=segment.seq + 1)
    if segment.ack is None:
        # Simultaneous open. Other controls and text are queued until ESTABLISHED.
        return Answer("SYN-RECEIVED", Sent("SYN,ACK", 0, block.rcv_nxt))
    block = replace(block, state="ESTABLISHED", snd_una=segment.ack)
    rest = replace(segment, syn=False, seq=segment.seq + 1)
    answer = _text_and_fin(block, rest)
    return answer if answer.sent else replace(answer, sent=Sent("ACK", block.snd_nxt, block.rcv_nxt))


def _acceptable(block: Block, segment: Arriving) -> bool:
    """Table 6."""
    start, end = segment.seq - block.rcv_nxt, segment.seq + segment.length - 1 - block.rcv_nxt
    if segment.length == 0:
        return start == 0 if block.rcv_wnd == 0 else 0 <= start < block.rcv_wnd
    return block.rcv_wnd > 0 and (0 <= start < block.rcv_wnd or 0 <= end < block.rcv_wnd)


def _otherwise(block: Block, segment: Arriving) -> Answer:
    """Section 3.10.7.4."""
    stays = Answer(block.state)
    tell = Answer(block.state, Sent("ACK", block.snd_nxt, block.rcv_nxt))
    if block.state == "SYN-RECEIVED" and not block.passive and segment.syn and not segment.rst and segment.ack == 1:
        # Figure 8, the end of a simultaneous open: the peer's SYN is known, its SYN-ACK acknowledges ours.
        if segment.seq == block.rcv_nxt - 1:
            answer = _otherwise(block, replace(segment, syn=False, seq=block.rcv_nxt))
            return answer if answer.sent else replace(answer, sent=tell.sent)

    # First, the sequence number. RFC 5961, section 3.2: of a reset, that of its first byte.
    if segment.rst:
        if not _acceptable(block, replace(segment, syn=False, fin=False, data=b"")):
            return stays
    elif not _acceptable(block, segment):
        # "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept
        # valid ACKs": these are looked at, and the answer goes out all the same.
        if block.rcv_wnd == 0 and segment.seq == block.rcv_nxt and segment.ack is not None and not segment.syn:
            answer = _ack(block, replace(segment, data=b"", fin=False))
            return answer if answer.sent else replace(answer, sent=tell.sent)
        return tell

    # Second, the RST.
    if segment.rst:
        if segment.seq != block.rcv_nxt:
            return tell  # RFC 5961, section 3.2: a challenge
        if block.state == "TIME-WAIT":
            return stays  # RFC 1337, section 3, (F1)
        if block.state == "SYN-RECEIVED":
            return Answer("LISTEN") if block.passive else Answer("CLOSED", signal="refused")
        return Answer("CLOSED", signal="" if block.state in ("CLOSING", "LAST-ACK") else "reset")

    # Fourth, the SYN.
    if segment.syn:
        if block.state == "SYN-RECEIVED" and block.passive:
            return Answer("LISTEN")
        return tell  # RFC 5961, section 4.2: a challenge

    # Fifth, the ACK.
    return stays if segment.ack is None else _ack(block, segment)


def _ack(block: Block, segment: Arriving) -> Answer:
    """The fifth check, and what follows it."""
    assert segment.ack is not None
    stays = Answer(block.state)
    tell = Answer(block.state, Sent("ACK", block.snd_nxt, block.rcv_nxt))
    if block.state == "SYN-RECEIVED":
        if not block.snd_una < segment.ack <= block.snd_nxt:
            return Answer(block.state, Sent("RST", segment.ack))
        block = replace(block, state="ESTABLISHED")
    # RFC 5961, section 5.2, for what is too old, which what is from before the first byte always is; the RFC itself for
    # what was never sent.
    if not max(block.snd_una - block.max_snd_wnd, 1) <= segment.ack <= block.snd_nxt:
        return tell
    if block.fin_sent and segment.ack == block.snd_nxt:
        if block.state == "LAST-ACK":
            return Answer("CLOSED")
        block = replace(block, state={"FIN-WAIT-1": "FIN-WAIT-2", "CLOSING": "TIME-WAIT"}.get(block.state, block.state))
        if block.state == "TIME-WAIT":
            stays = Answer("TIME-WAIT")
    if block.state in ("CLOSING", "LAST-ACK"):
        return stays  # "otherwise, ignore the segment"
    return _text_and_fin(block, segment)


def _text_and_fin(block: Block, segment: Arriving) -> Answer:
    """The seventh and eighth check."""
    if block.state not in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"):
        # CLOSE-WAIT, TIME-WAIT: the text is ignored. What a FIN here would be is no retransmission, which is old and
        # was answered by the first check, but a second one; it changes nothing (eighth check), and so does the text.
        return Answer(block.state)
    # "Idealized": what is old is cut off, and what is beyond the window, with the FIN behind it.
    old = max(block.rcv_nxt - segment.seq, 0)
    data, seq = segment.data[old:], segment.seq + old
    room = max(block.rcv_nxt + block.rcv_wnd - seq, 0)
    fin = segment.fin and len(data) + 1 <= room
    data = data[:room]
    acknowledged = segment.length > 0
    if seq > block.rcv_nxt:
        # Held for later (SHLD-31); the acknowledgement tells of the hole at once (RFC 5681, section 4.2).
        sent = Sent("ACK", block.snd_nxt, block.rcv_nxt) if acknowledged else None
        return Answer(block.state, sent)
    state = block.state
    if fin:
        state = {"ESTABLISHED": "CLOSE-WAIT", "FIN-WAIT-1": "CLOSING", "FIN-WAIT-2": "TIME-WAIT"}[state]
    sent = Sent("ACK", block.snd_nxt, block.rcv_nxt + len(data) + fin) if acknowledged else None
    return Answer(state, sent, data, "closing" if fin else "")
