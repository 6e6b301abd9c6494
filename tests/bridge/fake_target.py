"""A fake target: a transport whose other end is an agent played in this process, with a stack in place of a kernel.

It speaks the real link protocol over an in-memory channel, so a Session on it does everything but reach another
machine. What it does wrong is chosen by its fields.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from netbridge.bridge.agent.frames import CONTROL, PACKET, Decoder, control_frame, frame_header, parse_control
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
            if kind == CONTROL:
                self.target.told(parse_control(payload))
            elif kind == PACKET and self.target.link.user:
                self.target.link.user.packet_received(payload)
        if self.target.link.user:
            self.target.link.user.burst_ended()

    def deliver(self, data: bytes) -> None:
        """Bytes of the agent's stdout."""
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
        """The stream ends by itself."""
        if self.user and not self.closed.done():
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
        channel = self.target.channel
        if channel is not None:
            asyncio.get_running_loop().call_soon(channel.deliver, frame_header(PACKET, len(packet)) + packet)

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
        self.channel: FakeChannel | None = None
        self.link = FakeTun(self)

    async def connect(self) -> None:
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

    def told(self, message: dict[str, Any]) -> None:
        """A control message of the session."""
        self.messages.append(message)
        assert self.channel
        if message["type"] == "setup":
            refused = {item["route"] for item in self.skips}
            routes = [route for route in message["routes"] if route not in refused]
            answer = self.refuses_setup or {
                "type": "ready", "tun": message["tun"], "offload": False, "routes": routes, "skipped": self.skips,
                "dns": bool(message["dns"]["service"]), "listen": "127.0.0.97",
            }
            self.channel.deliver(control_frame(answer))
        elif message["type"] == "routes":
            self.channel.deliver(control_frame({"type": "routes_changed", "routes": message["routes"], "skipped": []}))
        elif message["type"] == "stop" and not self.ignores_stop:
            self.channel.deliver(control_frame({"type": "stopped"}))

    @property
    def setup(self) -> dict[str, Any]:
        """The one `setup` message."""
        (message,) = (message for message in self.messages if message["type"] == "setup")
        return message

    def kernel(self) -> Stack:
        """A stack with the TUN's addresses: what applications over there would use."""
        return Stack(self.link, self.setup["addresses"], sources=[])
