"""Knowing that a shell over there listens: it prints a word that only we know.

A login may print anything first (banners, rc files, a warning of the program that logs in), and until the login is
done there is nothing at the other end. So the command line begins with printing a fresh random word; what comes
before it is noise for the log, what comes after it is the command's. The word stands in the command line in two
pieces, so an echo of the line (a terminal, a `cat`) is not mistaken for its execution.

Nothing is written to the channel before the word has come. POSIX wants a shell that reads its script from stdin to
take no byte too many, but dash before 0.5.13 reads in blocks; with nothing more to read, it cannot swallow what
belongs to the command.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable

from ..errors import TargetUnreachableError
from ..plain import clean
from .process import ProcessChannel

MOST_NOISE = 1 << 20
"""Bytes before the word: no banner is that long, but an endless writer is."""
LINES = 50
"""Of its lines that are logged: a banner has fewer."""
REMEMBERED = 2000
"""Bytes of it that are kept for an error."""
PATIENCE = 330.0
"""Seconds until the word must have come: a stopped codespace takes up to five minutes to start."""


class Greeting:
    """A word to be printed by the shell over there."""

    def __init__(self, *, question: bytes = b"") -> None:
        """`question`: what comes instead when a program on the way wants an answer that nobody can give."""
        self._secret = secrets.token_hex(8)
        self._question = question
        self._listener: _Listener | None = None
        self.word = f"netbridge-{self._secret}\n".encode()

    @property
    def noise(self) -> str:
        """The last of what came instead of the word: programs tell their errors there too. Printable, untrusted."""
        return "\n".join(self._listener.last_lines()) if self._listener else ""

    def shell(self) -> str:
        """The command (POSIX shell, csh and fish alike) that prints the word."""
        return f"printf '%s-%s\\n' netbridge {self._secret}"

    async def wait(self, channel: ProcessChannel, log: Callable[[str], None]) -> None:
        """Wait for the word; afterwards the channel's next byte is the command's first.

        Raises BridgeError; the channel is then closed.
        """
        listener = self._listener = _Listener(channel, self.word, log, self._question)
        channel.start(listener)
        try:
            async with asyncio.timeout(PATIENCE):
                await listener.heard
        except BaseException as error:
            # Nothing over there knows of us yet, so nothing need be undone there.
            channel.close()
            channel.child.signal(signal.SIGTERM)
            if isinstance(error, asyncio.CancelledError):
                raise
            await channel.wait_closed()
            if isinstance(error, TimeoutError):
                raise TargetUnreachableError(
                    "No shell answered over there.",
                    f"{PATIENCE:.0f} seconds were not enough. {listener.last_noise}",
                    "Check that the same command by hand reaches a shell.",
                ) from None
            raise


class _Listener:
    """A ChannelUser that listens for the word."""

    def __init__(self, channel: ProcessChannel, word: bytes, log: Callable[[str], None], question: bytes) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel = channel
        self._word = word
        self._log = log
        self._question = question
        self._noise = bytearray()

    def last_lines(self) -> list[str]:
        lines = [clean(line.decode("utf-8", "replace").strip()) for line in self._noise[-REMEMBERED:].splitlines()]
        return [line for line in lines if line]

    @property
    def last_noise(self) -> str:
        lines = self.last_lines()
        return f"It said: {lines[-1]}" if lines else "It said nothing."

    def data_received(self, data: memoryview) -> None:
        noise = self._noise
        searched = max(0, len(noise) - max(len(self._word), len(self._question)))
        noise += data
        found = noise.find(self._word, searched)
        asked = noise.find(self._question, searched) if self._question else -1
        if found >= 0 and not 0 <= asked < found:
            self._channel.pause(bytes(noise[found + len(self._word) :]))
            for line in noise[:found].splitlines()[:LINES]:
                if text := clean(line[:400].decode("utf-8", "replace").strip()):
                    self._log(text)
            self._settle(None)
        elif asked >= 0:
            self._channel.pause(b"")
            explain = self._channel.explain
            self._settle((explain and explain(None, "")) or TargetUnreachableError(
                "The command that reaches the target asks a question.", self.last_noise,
                "Run it by hand, and see that it need not ask.",
            ))
        elif len(noise) > MOST_NOISE:
            self._channel.pause(b"")
            self._settle(
                TargetUnreachableError(
                    "No shell answered over there.",
                    f"{MOST_NOISE} bytes of something else came.",
                    "Check that the command reaches a shell.",
                )
            )

    def burst_ended(self) -> None:
        pass

    def channel_ready(self) -> None:
        pass

    def channel_lost(self, error: Exception | None) -> None:
        self._settle(
            error
            or TargetUnreachableError(
                "The connection ended before a shell answered.",
                self.last_noise,
                "Check that the same command by hand reaches a shell.",
            )
        )

    def _settle(self, error: Exception | None) -> None:
        if self.heard.done():
            return
        if error is None:
            self.heard.set_result(None)
        else:
            self.heard.set_exception(error)
