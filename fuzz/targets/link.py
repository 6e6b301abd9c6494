"""A link's bytes give the same greeting, the same packets and the same error, whole and cut at every byte."""

from __future__ import annotations

from netbridge.stack.link.base import Buffer, LinkError
from netbridge.stack.link.carried import MAX_LEN, MIN_LEN, CarriedLink
from netbridge.stack.link.greeting import GREETING, MAX_MTU, MIN_MTU, Greeting, parse


class Taken(CarriedLink):
    """Its own user."""

    def __init__(self) -> None:
        super().__init__(mtu=1500, offload=True)
        self.packets: list[bytes] = []
        self._user = self

    def send(self, header: Buffer, payload: Buffer = b"") -> None: ...
    def burst_ended(self) -> None: ...
    def link_ready(self) -> None: ...
    def link_lost(self, error: Exception | None) -> None: ...
    async def _receive(self) -> None: ...
    async def _release(self) -> None: ...

    def packet_received(self, packet: memoryview) -> None:
        assert MIN_LEN <= len(packet) <= MAX_LEN
        self.packets.append(bytes(packet))


def _taken(pieces: list[bytes]) -> tuple[Greeting | None, list[bytes], str]:
    """What came of them: the greeting, the packets behind it, and whose error it was."""
    link, said, theirs = Taken(), b"", None
    try:
        for piece in pieces:
            if theirs is not None:
                link._take(piece)
                continue
            said += piece
            theirs = parse(said)
            if theirs is not None:
                link._take(said[GREETING.size :])
    except LinkError as error:
        text = str(error)
        assert "\n" not in text
        assert len(text) < 400
        return theirs, link.packets, "stranger" if theirs is None else text
    assert len(link._pending) < 4 + MAX_LEN
    return theirs, link.packets, ""


def run(data: bytes) -> object:
    found = _taken([data])
    assert _taken([data[at : at + 1] for at in range(len(data))]) == found
    middle = len(data) // 2
    assert _taken([data[:middle], data[middle:]]) == found
    theirs, packets, error = found
    if theirs is not None:
        assert MIN_MTU <= theirs.mtu <= MAX_MTU
        again = parse(theirs.emit())
        assert again == theirs
    return theirs is not None and (theirs.offload, theirs.role), min(len(packets), 3), error[:20]
