"""A fake target: a transport whose other end is an agent played in this process, with a stack in place of a kernel.

It speaks the real link protocol over an in-memory channel, so a Session on it does everything but reach another
machine. What it does wrong is chosen by its fields. A channel may be lost; what was under way is sent again over the
next one, as the real agent does it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from netbridge.bridge.agent.frames import (
    ACK,
    CONTROL,
    HEADER_LEN,
    PACKET,
    PING,
    PONG,
    Decoder,
    control_frame,
    frame_header,
    parse_control,
)
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.firststage import agent_code
from netbridge.bridge.transport.base import Buffer, Channel, ChannelUser, Transport
from netbridge.stack import Stack
from netbridge.stack.link.base import Link, LinkUser

HELLO: dict[str, Any] = {
    "type": "hello", "protocol": 1, "version": "1", "python": "3.11.7", "kernel": "6.1", "pid": 7, "uid": 0,
    "user": "vscode", "host": "fake", "facts": {
        "subnets": ["10.0.0.0/16"], "nameservers": ["10.0.0.2"], "search": [], "ssh_peer": None, "ipv6": True,
    },
}


class FakeChannel(Channel):
    """Hands bytes to and fro within the event loop, never in the same call."""

    def __init__(self, target: FakeTarget, nonce: str) -> None:
        self.target = target
        self.user: ChannelUser | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._early: list[bytes] = []
        self._code_left = len(agent_code())
        self._decoder = Decoder()
        self._nonce = nonce

    def start(self, user: ChannelUser) -> None:
        self.user = user
        early, self._early = self._early, []
        for data in early:
            self.deliver(data)

    def write(self, buffers: Sequence[Buffer]) -> None:
        data = b"".join(buffers)
        asyncio.get_running_loop().call_soon(self._taken, data)

    def _taken(self, data: bytes) -> None:
        if self._code_left:
            self._code_left -= len(data)
            assert self._code_left >= 0
            if not self._code_left and not self.target.mute:
                self.deliver(f"welcome!\r\nNB:{self._nonce}:agent\n".encode())
                self.deliver(control_frame(self.target.hello))
            return
        for kind, payload in self._decoder.feed(memoryview(data)):
            if self.closed.done():
                return
            if kind == CONTROL:
                self.target.told(parse_control(payload), self)
            elif kind == PACKET:
                assert self.target.serving is self, "a packet before the bridge is resumed"
                self.target.taken += len(payload)
                if self.target.link.user:
                    self.target.link.user.packet_received(payload)
            elif kind == PING and not self.target.frozen:
                self.deliver(frame_header(PONG, 8) + payload)
        if self.target.link.user:
            self.target.link.user.burst_ended()
        if self.target.acknowledges and not self.closed.done():
            self.deliver(frame_header(ACK, 8) + self.target.taken.to_bytes(8, "big"))

    def deliver(self, data: bytes) -> None:
        """Bytes of the agent's stdout."""
        if self.target.frozen:
            return
        if self.user is None:
            self._early.append(data)
        elif not self.closed.done():
            self.user.data_received(memoryview(data))
            self.user.burst_ended()

    @property
    def ready(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def lose(self, error: Exception | None) -> None:
        """The stream ends by itself; what is under way is lost."""
        if self.target.serving is self:
            self.target.serving = None
        if self.user and not self.closed.done():
            self.closed.set_result(None)
            self.user.channel_lost(error)

    async def wait_closed(self) -> int | None:
        await asyncio.shield(self.closed)
        return 0


class FakeTun(Link):
    """The agent's end of the link, for a stack that plays the kernel over there."""

    def __init__(self, target: FakeTarget) -> None:
        self.target = target
        self.user: LinkUser | None = None

    def start(self, user: LinkUser) -> None:
        self.user = user

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        packet = bytes(header) + bytes(payload)
        self.target.emit(frame_header(PACKET, len(packet)) + packet)

    @property
    def ready(self) -> bool:
        return True

    def close(self) -> None:
        self.user = None


class FakeTarget(Transport):
    """A transport to nowhere; what went over it is kept in `messages`."""

    def __init__(self) -> None:
        self.hello = HELLO
        self.fails_to_connect: BridgeError | None = None
        self.hangs_while_connecting = False
        self.mute = False
        """The agent never says a word."""
        self.refuses_setup: dict[str, Any] | None = None
        self.ignores_stop = False
        self.hangs_while_closing = False
        self.command_status: int | None = 0
        """Exit status of a COMMAND; None: it runs until it is cancelled."""
        self.skips: list[dict[str, str]] = []
        self.messages: list[dict[str, Any]] = []
        self.commands: list[tuple[str, ...]] = []
        self.command_cancelled = False
        self.closed = 0
        self.connects = 0
        """Attempts to connect so far."""
        self.refuses_resume: dict[str, Any] | None = None
        """What the agent answers instead of `resumed`."""
        self.lies_about_taken: object = None
        """What it says instead of the bytes it took."""
        self.acknowledges = False
        """It says what it took, as the real one does; without, some hundred KiB are all that comes."""
        self.frozen = False
        """Nothing comes of it any more, and nothing ends."""
        self.channel: FakeChannel | None = None
        """The one opened last."""
        self.serving: FakeChannel | None = None
        """The one that packets travel over."""
        self.taken = 0
        """PACKET bytes taken from the session."""
        self.sent: list[bytes] = []
        """All PACKET frames for the session."""
        self.link = FakeTun(self)

    async def connect(self) -> None:
        self.connects += 1
        if self.fails_to_connect:
            raise self.fails_to_connect
        if self.hangs_while_connecting:
            await asyncio.Event().wait()

    async def open(self, command: str) -> Channel:
        nonce = re.search(r"m=\$m:([0-9a-f]{16}):", command)
        assert nonce
        self.channel = FakeChannel(self, nonce[1])
        return self.channel

    async def run(self, argv: Sequence[str]) -> int:
        self.commands.append(tuple(argv))
        if self.command_status is not None:
            return self.command_status
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.command_cancelled = True
            raise
        raise AssertionError

    async def close(self) -> None:
        self.closed += 1
        if self.hangs_while_closing:
            await asyncio.Event().wait()

    def emit(self, frame: bytes) -> None:
        """A packet for the session; when there is no connection it waits for the next."""
        self.sent.append(frame)
        if self.serving is not None:
            asyncio.get_running_loop().call_soon(self.serving.deliver, frame)

    def told(self, message: dict[str, Any], channel: FakeChannel) -> None:
        """A control message of the session."""
        self.messages.append(message)
        if message["type"] == "setup":
            refused = {item["route"] for item in self.skips}
            routes = [route for route in message["routes"] if route not in refused]
            answer = self.refuses_setup or {
                "type": "ready", "tun": message["tun"], "offload": False, "routes": routes, "skipped": self.skips,
                "dns": bool(message["dns"]["service"]), "listen": "127.0.0.97",
            }
            self.serving = channel
            channel.deliver(control_frame(answer))
        elif message["type"] == "resume":
            self._resume(message, channel)
        elif message["type"] == "routes":
            if self.serving is not channel:
                channel.deliver(control_frame({"type": "error", "code": "bad_message", "detail": "before setup"}))
                return
            changed = {"type": "routes_changed", "routes": message["routes"], "skipped": []}
            channel.deliver(control_frame({**changed, "number": message["number"]}))
        elif message["type"] == "names":
            channel.deliver(control_frame({"type": "names_changed", "number": message["number"]}))
        elif message["type"] == "stop" and not self.ignores_stop:
            channel.deliver(control_frame({"type": "stopped"}))

    def _resume(self, message: dict[str, Any], channel: FakeChannel) -> None:
        session = self.setup["session"]
        assert (message["session"], message["secret"]) == (session["name"], session["secret"])
        if self.refuses_resume is not None:
            channel.deliver(control_frame(self.refuses_resume))
            return
        self.serving = channel
        taken = self.taken if self.lies_about_taken is None else self.lies_about_taken
        channel.deliver(control_frame({"type": "resumed", "taken": taken}))
        total = 0
        for frame in self.sent:
            if total >= message["taken"]:
                asyncio.get_running_loop().call_soon(channel.deliver, frame)
            total += len(frame) - HEADER_LEN

    @property
    def setup(self) -> dict[str, Any]:
        """The one `setup` message."""
        (message,) = (message for message in self.messages if message["type"] == "setup")
        return message

    def kernel(self) -> Stack:
        """A stack with the TUN's addresses: what applications over there would use."""
        return Stack(self.link, self.setup["addresses"], sources=[])
