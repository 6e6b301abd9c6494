"""The states of a connection and the moves between them, as data (RFC 9293, section 3.3.2, figure 5).

A connection changes its state in one place, :meth:`ControlBlock.fire <netbridge.stack.tcp.tcb.ControlBlock>`, which
looks the move up here; a pair that is not in the table is a bug of ours, not of the peer.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """A connection's state. LISTEN is held by the listener, not by a connection."""

    CLOSED = "CLOSED"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"


class Event(enum.Enum):
    """What moves a connection."""

    OPEN = "active open"
    ACCEPT = "SYN in LISTEN"
    RCV_SYN = "SYN received"
    RCV_SYN_ACK = "SYN and ACK of our SYN received"
    ACK_OF_SYN = "ACK of our SYN received"
    CLOSE = "user closes"
    RCV_FIN = "FIN received"
    ACK_OF_FIN = "ACK of our FIN received"
    ABORT = "reset, timeout or user abort"
    TIMEOUT_2MSL = "2 MSL passed"


S, E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (S.CLOSED, E.OPEN): S.SYN_SENT,
    (S.CLOSED, E.ACCEPT): S.SYN_RECEIVED,
    (S.SYN_SENT, E.RCV_SYN_ACK): S.ESTABLISHED,
    (S.SYN_SENT, E.RCV_SYN): S.SYN_RECEIVED,
    (S.SYN_SENT, E.CLOSE): S.CLOSED,
    (S.SYN_RECEIVED, E.ACK_OF_SYN): S.ESTABLISHED,
    # A close in SYN-RECEIVED waits for ESTABLISHED (RFC 9293, section 3.10.4); a FIN comes after the ACK of the SYN.
    (S.ESTABLISHED, E.CLOSE): S.FIN_WAIT_1,
    (S.ESTABLISHED, E.RCV_FIN): S.CLOSE_WAIT,
    (S.FIN_WAIT_1, E.ACK_OF_FIN): S.FIN_WAIT_2,
    (S.FIN_WAIT_1, E.RCV_FIN): S.CLOSING,
    (S.FIN_WAIT_2, E.RCV_FIN): S.TIME_WAIT,
    (S.CLOSE_WAIT, E.CLOSE): S.LAST_ACK,
    (S.CLOSING, E.ACK_OF_FIN): S.TIME_WAIT,
    (S.LAST_ACK, E.ACK_OF_FIN): S.CLOSED,
    (S.TIME_WAIT, E.TIMEOUT_2MSL): S.CLOSED,
} | {(state, E.ABORT): S.CLOSED for state in S}

SYNCHRONIZED = frozenset(S) - {S.CLOSED, S.SYN_SENT, S.SYN_RECEIVED}
MAY_SEND_DATA = frozenset({S.ESTABLISHED, S.CLOSE_WAIT})
MAY_RECEIVE_DATA = frozenset({S.ESTABLISHED, S.FIN_WAIT_1, S.FIN_WAIT_2})
