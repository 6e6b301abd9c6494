"""Whatever a target prints before and as the agent's first words is noise, an answer or a refusal, wherever it is cut.

An echo of the command, whole or in a terminal's lines, is never taken for the answer. The same holds for the word by
which a shell over there makes itself known.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fuzz.cuts import cuts
from fuzz.line import ListChannel
from fuzz.shown import harmless, kind, shown
from netbridge.bridge import bootstrap
from netbridge.bridge.agent.frames import FrameError
from netbridge.bridge.bootstrap import AgentHandle, AgentOptions, agent_command
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.startfaults import refused_start
from netbridge.bridge.transport import greeting
from netbridge.bridge.transport.greeting import Greeting

NONCE = "0123456789abcdef"
MARKER = f"NB:{NONCE}:".encode()
WORD = f"netbridge-{NONCE}\n".encode()
OPTIONS = AgentOptions(nonce=NONCE)
ECHO = agent_command(OPTIONS).encode()
assert MARKER not in ECHO
LONG = b"\xee"
"""At the front of an input: a long line, as much noise as there may be and some more comes before."""

_loop = asyncio.new_event_loop()


def run(data: bytes) -> object:
    if data[:1] == LONG:
        data = b"x" * (bootstrap.MAX_NOISE - 100 + 2 * data[1] if data[1:] else 0) + data[2:]
    data = data.replace(b"{command}", ECHO)
    return _loop.run_until_complete(_run(data))


async def _run(data: bytes) -> object:
    found = [_started(pieces) for pieces in cuts(data)]
    assert found[0] == found[1] == found[2], found
    line, _ = found[0]
    assert line is None or MARKER in data or line.startswith("The agent did not start.")
    words = [_greeted(pieces) for pieces in cuts(data)]
    assert words[0] == words[1] == words[2], words
    return kind(str(line)), len(found[0][1]) > 0, words[0][0]


def _started(pieces: list[bytes]) -> tuple[str | None, bytes]:
    """The line behind the marker (or the failure), and the bytes that are the agent's; then what the link makes of
    them."""
    marker = bootstrap._Marker(MARKER)
    for piece in pieces:
        marker.data_received(memoryview(piece))
        if marker.line.done() and marker.line.exception():
            error = marker.line.exception()
            assert isinstance(error, BridgeError)
            return shown(error), b""
        assert len(marker._seen) <= bootstrap.MAX_NOISE + len(piece) + bootstrap.MAX_MARKER
    if not marker.line.done():
        marker.channel_lost(None)
        assert isinstance(marker.line.exception(), EOFError)
        return None, b""
    line = marker.line.result()
    if line != "agent":
        shown(refused_start(line))
        return line, b""
    rest = bytes(marker.rest)
    _spoken(rest)
    return line, rest


def _spoken(rest: bytes) -> None:
    """The agent's first words, as far as they are frames."""
    handle = AgentHandle(ListChannel(), OPTIONS)
    ended: list[Any] = []
    handle.on_lost = ended.append
    hello = handle._expect("hello")
    handle.framed.data_received(memoryview(rest))
    for error in ended:
        assert isinstance(error, OSError), error
        assert harmless(str(error))
        assert not isinstance(error, FrameError)
    hello.cancel() if not hello.done() else hello.exception()


class _Process(ListChannel):
    """The channel of a program that reaches a shell."""

    explain = None

    def __init__(self) -> None:
        super().__init__()
        self.paused: list[bytes] = []

    def pause(self, rest: bytes) -> None:
        self.paused.append(rest)


def _greeted(pieces: list[bytes]) -> tuple[str, bytes]:
    made = Greeting(question=b"Please enter ")
    assert WORD.rstrip() not in made.shell().replace(made._secret, NONCE).encode()
    logged: list[str] = []
    process = _Process()
    channel: Any = process
    listener = greeting._Listener(channel, WORD, logged.append, b"Please enter ")
    at = 0
    for piece in pieces:
        at += len(piece)
        listener.data_received(memoryview(piece))
        if listener.heard.done():
            break
    rest = b"".join(pieces)[at:]
    for line in (*logged, *listener.last_lines()):
        assert harmless(line)
    if not listener.heard.done():
        listener.heard.cancel()
        return "nothing", b""
    error = listener.heard.exception()
    if error is not None:
        assert isinstance(error, BridgeError)
        return kind(shown(error)), b""
    return "heard", process.paused[0] + rest


