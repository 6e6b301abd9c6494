"""How the agent is reached: a transport runs a shell command over there and gives its stdin and stdout as a channel."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Protocol

from .mend import IN_GENERAL, Mend

Buffer = bytes | bytearray | memoryview


class ChannelUser(Protocol):
    """Who receives from a channel."""

    def data_received(self, data: memoryview) -> None:
        """Take bytes of the command's stdout. The view is valid only until this call returns."""

    def burst_ended(self) -> None:
        """Everything that could be read at once was delivered."""

    def channel_ready(self) -> None:
        """`Channel.ready` is True again after it was False."""

    def channel_lost(self, error: Exception | None) -> None:
        """The stream ended (None: end of file). Called once."""


class Channel(abc.ABC):
    """The stdin and stdout of one command on the target, as a byte stream. Its stderr goes to the transport's log."""

    @abc.abstractmethod
    def start(self, user: ChannelUser) -> None:
        """Begin (or go on) to deliver to `user`; may be called again to hand the stream to another user."""

    @abc.abstractmethod
    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write the buffers in order. Never blocks: what the pipe does not take is kept. The buffers are immutable."""

    @property
    @abc.abstractmethod
    def ready(self) -> bool:
        """False while more bytes wait here than should."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close both directions; the command over there sees end of file."""

    @abc.abstractmethod
    async def wait_closed(self) -> int | None:
        """Wait until the command ended; its exit status where the transport knows it."""

    def diagnostics(self) -> str:
        """The last lines of standard error, for error messages. Untrusted text."""
        return ""

    def received_descriptors(self) -> list[int]:
        """File descriptors that came with the stream (SCM_RIGHTS), oldest first; ownership passes to the caller."""
        return []


class Transport(abc.ABC):
    """One target, reachable."""

    passes_descriptors: bool = False
    """True where the agent can hand its TUN's descriptor over (same machine), so packets need no frames."""

    peer_address: str | None = None
    """The address the tunnel itself uses, where known after `connect`."""

    peer_port: int | None = None
    """Its TCP port, where that is a connection of this machine's own."""

    mend: Mend = IN_GENERAL
    """What to change where the target lacks something."""

    may_start: bool = True
    """Whether `connect` may start a target that is stopped. Not when a connection is made anew: what a bridge had there
    is gone, and a codespace that fell asleep shall not be paid for because a bridge was left open."""

    @abc.abstractmethod
    async def connect(self) -> None:
        """Reach the target and log in. Raises a BridgeError, of these TargetStoppedError where it does not run."""

    @abc.abstractmethod
    async def open(self, command: str) -> Channel:
        """Run `command` by the target user's shell, without a pty. Raises a BridgeError."""

    @abc.abstractmethod
    async def run(self, argv: Sequence[str]) -> int:
        """Run a user's COMMAND (or, when empty, a login shell) there, on this terminal; return its exit status."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go of the target."""
