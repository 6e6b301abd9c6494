"""Who uses a connection."""

from __future__ import annotations

from typing import Protocol


class ConnectionUser(Protocol):
    """Who uses a connection. The calls come from inside `receive`, `drain`, `handle_timeout`: do not re-enter."""

    def connected(self) -> None:
        """The handshake is complete."""

    def data_received(self, data: memoryview) -> int:
        """Take bytes in order; returns how many were taken. The rest is offered again by `Connection.drain`."""

    def eof_received(self) -> None:
        """The peer sends no more, and everything it sent was taken."""

    def acked(self) -> None:
        """Data was acknowledged or the window opened: there may be room to write."""

    def probed(self, idle: float) -> None:
        """The peer asks whether the connection still lives (keepalive), after `idle` seconds without a word."""

    def closed(self, error: OSError | None) -> None:
        """The connection is over: None after an orderly end, else why not. Called once."""
