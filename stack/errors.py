"""The one exception of the wire formats."""

from __future__ import annotations


class WireError(ValueError):
    """Received bytes are not a packet we can take; whoever sent them is at fault, and they are dropped and counted.

    Where IPv6 wants the sender to be told (RFC 8200 sections 4.2, 4.4 and 4.5, RFC 7112), `code` is the code of the
    ICMPv6 parameter problem and `pointer` the offset of the offending byte; otherwise `code` is None.
    """

    def __init__(self, reason: str, *, code: int | None = None, pointer: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.pointer = pointer
