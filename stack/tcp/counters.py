"""What TCP counts; one set for all connections of a stack."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TcpCounters:
    """What TCP saw."""

    segments_in: int = 0
    """Segments received for connections and handshakes; of others each is counted by what became of it."""
    segments_out: int = 0
    """Packets sent, a super-segment counting as one."""
    bytes_in: int = 0
    """Payload bytes of these, repeated ones included."""
    bytes_out: int = 0
    """Payload bytes sent, repeated ones included."""
    bad_header: int = 0
    """Dropped: a header that lies about its length, or port 0."""
    bad_checksum: int = 0
    """Dropped: wrong checksum."""
    resets_sent: int = 0
    """RSTs in answer to segments that belong to no connection, and to requests that were refused."""
    strays: int = 0
    """Segments that belong to no connection, answered by RST."""
    unanswered: int = 0
    """Dropped: segments to a listener that neither begin a connection nor belong to one."""
    stray_resets: int = 0
    """RSTs that fit no connection and no request; ignored."""
    undecided: int = 0
    """Dropped: segments of connections whose request is still being decided."""
    syn_repeated: int = 0
    """SYNs of requests that are still being decided."""
    requests: int = 0
    """Connection requests received."""
    forwarded: int = 0
    """Of these, given to the forwarder."""
    accepted: int = 0
    """Requests answered with SYN-ACK because the forwarder had a connection for them."""
    refused: int = 0
    """Requests answered with RST."""
    unreachable: int = 0
    """Requests answered with an ICMP error."""
    dropped: int = 0
    """Requests answered with silence: a queue or a limit was full, nobody answered them, or the stack closed."""
    cancelled: int = 0
    """Requests that the peer took back by RST."""
    handshakes: int = 0
    """Requests answered with SYN-ACK for a listener, each the beginning of a handshake."""
    time_waits_cut: int = 0
    """Connections whose TIME-WAIT ended early, oldest first, because there were too many."""
    half_open_dropped: int = 0
    """Handshakes of listeners given up, oldest first, because a newer one needed their place."""
    handshakes_failed: int = 0
    """Handshakes of listeners that the peer reset or did not finish in time, or whose listener closed."""
    established: int = 0
    """Handshakes of listeners that became connections."""
    connects: int = 0
    """Connections opened from here."""
    opened: int = 0
    """Connections accepted or opened, all together."""
    closed: int = 0
    """Connections ended."""
    failed: int = 0
    """Of these, ended by reset or timeout."""
    broken: int = 0
    """Callbacks of a connection's user that raised; the connection was reset."""
    retransmitted: int = 0
    """Segments sent again, of ended connections."""
    out_of_window: int = 0
    """Dropped: segments and resets outside the receive window; neither a probe nor data sent again."""
    challenges: int = 0
    """Challenge ACKs due to segments that may be forged (RFC 5961)."""
    challenges_withheld: int = 0
    """Of these, not sent because one was sent a moment ago, or too many by others (RFC 5961, section 7)."""
    errors: int = 0
    """ICMP errors about segments that were in flight."""
    without_ack: int = 0
    """Dropped: segments of connections that have to carry an acknowledgement and do not."""
    outdated: int = 0
    """Dropped: segments whose timestamp is older than the last one (PAWS, RFC 7323, section 5)."""
    without_stamp: int = 0
    """Dropped: segments without the timestamp that was agreed on (RFC 7323, section 3.2)."""
    marked: int = 0
    """Segments with data that a router marked instead of dropping them (RFC 3168)."""
    early: int = 0
    """Segments that came before their turn."""
    early_refused: int = 0
    """Of these, not kept, or only instead of others: too many gaps or bytes; the peer sends it again."""
