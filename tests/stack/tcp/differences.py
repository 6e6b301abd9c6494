"""Where the stack answers a segment otherwise than the reference model (`reference.py`) does, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .reference import Answer, Arriving, Block, Sent

BUFFER = 64 * 1024
"""The receive buffer: what is older than that is old enough to be forged."""


@dataclass(frozen=True)
class Difference:
    """Some cells, what the stack answers there, and why."""

    reason: str
    where: Callable[[Block, Arriving], bool]
    answer: Callable[[Block, Arriving, Answer], Answer]
    """Given the reference's."""


def _acknowledges(block: Block, **more: int) -> Sent:
    return Sent("ACK", block.snd_nxt, block.rcv_nxt + sum(more.values()))


def _syn_repeated(block: Block, segment: Arriving) -> bool:
    known = block.state == "SYN-RECEIVED" and segment.syn and segment.seq == block.rcv_nxt - 1
    return known and not segment.rst and segment.ack is None


def _syn_ack_crosses(block: Block, segment: Arriving) -> bool:
    known = block.state == "SYN-RECEIVED" and segment.syn and segment.seq == block.rcv_nxt - 1
    return known and block.passive and not segment.rst and segment.ack == 1


def _as_in_figure_8(block: Block, segment: Arriving, answer: Answer) -> Answer:
    state = "CLOSE-WAIT" if segment.fin else "ESTABLISHED"
    sent = _acknowledges(block, text=len(segment.data), fin=segment.fin)
    return Answer(state, sent, segment.data, "closing" if segment.fin else "")


def _syn_in_the_window(block: Block, segment: Arriving) -> bool:
    return block.state == "SYN-RECEIVED" and block.passive and segment.syn and not segment.rst


def _reset_while_opening(block: Block, segment: Arriving) -> bool:
    return block.state == "SYN-RECEIVED" and not block.passive and segment.rst and segment.seq == block.rcv_nxt


def _fin_at_the_edge(block: Block, segment: Arriving) -> bool:
    plain = segment.fin and not segment.syn and not segment.rst
    return plain and segment.seq == block.rcv_nxt and len(segment.data) == block.rcv_wnd and _known(block, segment)


def _known(block: Block, segment: Arriving) -> bool:
    """The acknowledgement is missing, or one that RFC 5961 lets pass."""
    return segment.ack is None or max(block.snd_una - block.max_snd_wnd, 1) <= segment.ack <= block.snd_nxt


def _takes_the_fin(block: Block, segment: Arriving, answer: Answer) -> Answer:
    if segment.ack is None:
        return Answer(block.state)
    return Answer("CLOSE-WAIT", _acknowledges(block, text=len(segment.data), fin=1), segment.data, "closing")


def _old_with_news(block: Block, segment: Arriving) -> bool:
    closing = block.state in ("FIN-WAIT-1", "CLOSING", "LAST-ACK") and block.fin_sent
    old = 0 < block.rcv_nxt - segment.seq <= BUFFER and segment.seq + segment.length <= block.rcv_nxt
    return closing and old and segment.ack == block.snd_nxt and not segment.syn and not segment.rst


def _takes_the_acknowledgement(block: Block, segment: Arriving, answer: Answer) -> Answer:
    state = {"FIN-WAIT-1": "FIN-WAIT-2", "CLOSING": "TIME-WAIT", "LAST-ACK": "CLOSED"}[block.state]
    return replace(answer, state=state, sent=None if state == "CLOSED" else answer.sent)


def _reset_takes_data(block: Block, segment: Arriving) -> bool:
    closing = block.state in ("CLOSING", "LAST-ACK") and segment.rst and segment.seq == block.rcv_nxt
    return closing and block.snd_nxt - block.snd_una > 1


DIFFERENCES = [
    Difference(
        "A repeated SYN means that our SYN-ACK was lost, and a bare ACK would not replace it: the SYN-ACK goes again, "
        "as Linux and BSD do, text behind the SYN or not.",
        _syn_repeated,
        lambda block, segment, answer: Answer(block.state, Sent("SYN,ACK", 0, block.rcv_nxt)),
    ),
    Difference(
        "A connection does not know whether a listener began it; an ACK of our SYN is one also where it comes with "
        "the SYN that is known already (figure 8).",
        _syn_ack_crosses,
        _as_in_figure_8,
    ),
    Difference(
        "A SYN in the window of a half-open connection is challenged as in the synchronized states (RFC 5961, "
        "section 4.2) and does not take it down: whoever sends one blindly would keep others from connecting.",
        _syn_in_the_window,
        lambda block, segment, answer: Answer(block.state, _acknowledges(block)),
    ),
    Difference(
        "A reset after the peer's SYN was seen is told as a reset, not as a refusal: ECONNRESET, as Linux says.",
        _reset_while_opening,
        lambda block, segment, answer: replace(answer, signal="reset"),
    ),
    Difference(
        "A FIN needs no room: it is taken right behind the window, a closed one included. BSD sends it there, Linux "
        "takes it, and the peer would otherwise have to probe for a window that nobody needs.",
        _fin_at_the_edge,
        _takes_the_fin,
    ),
    Difference(
        "What is old still acknowledges, as BSD has it: a peer that sends the same again because our ACK was lost "
        "says the newest with it. RFC 9293 drops it, and waits for the next.",
        _old_with_news,
        _takes_the_acknowledgement,
    ),
    Difference(
        "A reset while data of ours is unacknowledged is told even where both sides have closed: that data may be "
        "lost. With nothing but the FIN in flight it is the end.",
        _reset_takes_data,
        lambda block, segment, answer: replace(answer, signal="reset"),
    ),
    Difference(
        "A SYN with a FIN is refused by a listener as by a closed port: only scanners send it.",
        lambda block, segment: (
            block.state == "LISTEN" and segment.syn and segment.fin and not segment.rst and segment.ack is None
        ),
        lambda block, segment, answer: Answer("LISTEN", Sent("RST,ACK", 0, segment.seq + segment.length)),
    ),
]
