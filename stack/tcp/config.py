"""What can be set about TCP, each with its default and the reason for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .congestion import CongestionControl
from .cubic import Cubic
from .rto import MAX_RTO, MIN_RTO

LEAST_USER_TIMEOUT, MOST_USER_TIMEOUT = 100.0, 3600.0
"""What a peer may make of the user timeout: RFC 9293's least R2, and an hour, as it holds our memory so long (RFC 5482,
section 3.1: L_LIMIT and U_LIMIT)."""

SEND_FLOOR = 64 * 1024
"""Bytes that a connection may always have in flight: one super-segment. Whatever others hold, it goes on."""


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """Settings all connections of a stack share. Times in seconds, sizes in bytes."""

    receive_window: int = 64 * 1024
    """The window a connection starts with: one super-segment. It grows while the reader keeps up, so a thousand
    connections with stalled readers hold little."""
    max_receive_window: int = 0xFFFF << 8
    """16 MiB: fills 1.3 Gbit/s at 100 ms, and is all that `wscale` can show."""
    receive_budget: int = 96 * 1024 * 1024
    """Unread bytes of all connections together above which no window is opened further. One alone may have a fifth."""
    send_budget: int = 96 * 1024 * 1024
    """Bytes that all connections together hold, written and not acknowledged, above which each has no more than
    `SEND_FLOOR` in flight and its writers wait; 0: nobody counts. A forwarder reads only what it can send, and needs no
    such thing."""
    wscale: int = 8
    """Our window shift."""
    sack: bool = True
    """Offer and use selective acknowledgements (RFC 2018)."""
    timestamps: bool = True
    """Offer and use timestamps (RFC 7323), which cost 12 bytes of each segment. Worth nothing on a link that loses
    nothing and has its peer at the other end."""
    ecn: bool = True
    """Agree to ECN when the peer asks for it (RFC 3168), as Linux does."""
    ecn_request: bool = False
    """Ask for ECN when opening a connection. Off as Linux has it: some middlebox may drop such a SYN."""
    congestion: Callable[[int], CongestionControl] = Cubic
    """Made for each connection with its segment size."""
    nagle: bool = False
    """Whether a small segment waits while others are in flight (RFC 9293, section 3.7.4). Off, as in asyncio's own
    connections: who writes small pieces that belong together joins them, and who forwards does not know."""
    min_rto: float = MIN_RTO
    """A link inside another TCP sets it high: there a late acknowledgement means a stall, not a loss."""
    longest_persist: float = MAX_RTO
    """Most seconds between probes of a closed window. Shorter where the news of its opening may well be lost."""
    persist_retries: int = 15
    """Probes of a closed window without any answer until the peer is given up."""
    delayed_ack: float = 0.04
    """RFC 9293, section 3.8.6.3 allows 0.5 s; Linux's 40 ms keeps request-response traffic quick."""
    quick_acks: int = 16
    """Acknowledgements sent without delay when data begins to come, and again after a pause: the peer is in slow start
    then and sends no more until it hears. As many as Linux sends at most."""
    syn_retries: int = 6
    """With 1 s doubling: gives up after 127 s as Linux does."""
    retries: int = 15
    """RFC 9293's R2 (at least 100 s); Linux's tcp_retries2, about 15 minutes."""
    user_timeout: float = 0.0
    """Seconds that something may wait to be acknowledged, or for a window, before the connection is given up (RFC 9293,
    section 3.9.1; Linux's TCP_USER_TIMEOUT); 0: `retries` and `persist_retries` decide."""
    user_timeout_option: bool = False
    """Tell the peer of it, and adopt what the peer tells (RFC 5482), from `LEAST_USER_TIMEOUT` to `MOST_USER_TIMEOUT`.
    Off: hardly anybody speaks it."""
    time_wait: float = 30.0
    """2 MSL (RFC 9293, section 3.4.2, says 4 minutes; Linux 60 s). A link that loses nothing sets it short: a
    reused port is told by its sequence number anyway."""
    most_time_wait: int = 16384
    """Connections in TIME-WAIT beyond which the oldest is over early (Linux's tcp_max_tw_buckets, by its memory): who
    has many addresses could fill ours with them by connecting to a server that closes first."""
    fin_wait_2: float = 60.0
    """How long a connection whose user closed both ways waits for the peer's FIN; Linux's tcp_fin_timeout."""
    orphan: float = 60.0
    """How long data of a connection whose user is gone may wait at a closed window."""
    keepalive: float = 0.0
    """Idle seconds before the first probe; 0: none. A forwarder sets it."""
    keepalive_interval: float = 75.0
    keepalive_probes: int = 9
    challenge_interval: float = 0.5
    """At most one challenge ACK a connection in this time (RFC 5961, section 7)."""
    challenge_limit: int = 1000
    """About so many a second of all connections together; Linux's tcp_challenge_ack_limit had this value."""
