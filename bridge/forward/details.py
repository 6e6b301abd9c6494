"""One flow in full, for whoever looks at it: both of its ends, as their TCPs see them.

The end towards the codespace is a connection of the stack; the end towards the host is a socket of this machine's
kernel, which tells by TCP_INFO (tcp(7), linux/tcp.h). Looked up when asked for, never kept.
"""

from __future__ import annotations

import struct
from socket import IPPROTO_TCP, socket
from typing import TYPE_CHECKING, Any

from .hostsocket import LINUX

if TYPE_CHECKING:
    from netbridge.stack.tcp.connection import Connection

TCP_INFO = 11
_INFO = struct.Struct("8B24I")
"""The part of struct tcp_info that Linux has had since 2.6."""
_STATES = (
    "", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING",
)
"""By the kernel's numbers, in RFC 9293's words."""


def connection_details(connection: Connection) -> dict[str, Any]:
    """The stack's end. Windows and queues in bytes, times in seconds, `retransmitted` in packets."""
    sender, receiver = connection.sender, connection.receiver
    return {
        "state": connection.state.value, "rtt": round(sender.rtt.srtt, 6), "rto": round(sender.rtt.rto, 3),
        "mss": connection.mss, "retransmitted": sender.retransmitted, "window_there": sender.wnd,
        "window_here": receiver.buffer, "in_flight": sender.flight, "queued": sender.queued,
        "unread": receiver.backlog_bytes,
    }


def socket_details(sock: socket, *, tcp: bool = False) -> dict[str, Any]:
    """The host's end: the addresses of the socket, and with `tcp` what the kernel knows of its connection."""
    found: dict[str, Any] = {}
    try:
        found["descriptor"] = sock.fileno()
        found["local"] = _shown(sock.getsockname())
        found["remote"] = _shown(sock.getpeername())
    except OSError:  # not connected yet, or no more
        pass
    if not tcp or not LINUX:
        return found
    try:
        raw = sock.getsockopt(IPPROTO_TCP, TCP_INFO, _INFO.size)
    except OSError:
        return found
    if len(raw) < _INFO.size:
        return found
    state, _, retransmits, *_ = values = _INFO.unpack(raw)
    rto, _, mss, _, unacked = values[8:13]
    rtt, cwnd, retransmitted = values[23], values[26], values[31]
    return found | {
        "state": _STATES[state] if state < len(_STATES) else str(state), "rtt": rtt / 1e6, "rto": rto / 1e6, "mss": mss,
        "retransmitted": retransmitted, "unanswered": retransmits, "congestion_window": cwnd * mss,
        "in_flight": unacked * mss,
    }


def _shown(address: tuple[Any, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
