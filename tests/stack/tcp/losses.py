"""For tests of losses: a connection with segments of ours on their way, each with a payload of its own."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig

from .conversation import MSS, Talk

RTT = 0.25
"""The round trip of the handshake."""


def part(number: int) -> bytes:
    """The payload of our segment `number`, whose first byte is 1 + number * MSS."""
    return bytes([number & 255]) * MSS


def send(talk: Talk, first: int, count: int) -> None:
    """Segments `first` and so on leave now."""
    for number in range(first, first + count):
        talk.writes(part(number))
        talk.hears("A", 1 + number * MSS, data=part(number))


def sending(
    count: int, config: TcpConfig | None = None, *, sack: bool = True, max_payload: int | None = None,
) -> Talk:  # fmt: skip
    """`count` segments of ours are on their way to a peer, which is 0.25 s away."""
    talk = Talk.established(config, sack=sack, max_payload=max_payload)
    send(talk, 0, count)
    return talk


def steady(config: TcpConfig | None = None, *, rtt: float = 0.1) -> tuple[Talk, int]:
    """Forty segments have come and gone, one a round trip of `rtt`; the number of the next."""
    talk = Talk.established(config, sack=True)
    for number in range(40):
        send(talk, number, 1)
        talk.passes(rtt)
        talk.says("A", 1, 1 + (number + 1) * MSS)
    return talk, 40
