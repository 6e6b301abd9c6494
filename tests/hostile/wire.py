"""A hostile agent's end of the link: it plays the shell that starts the agent, and the agent, as its kind says.

Everything is bytes on two descriptors, read and written together so that a flood never waits for who floods back. What
a kind does not spoil is answered as an honest agent would, so that the session can go on where it should.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from netbridge.bridge.agent.frames import (
    ACK,
    CONTROL,
    COUNT,
    PACKET,
    PING,
    PONG,
    Decoder,
    ack_frame,
    control_frame,
    frame_header,
    parse_control,
)

PATIENCE = 5.0
"""Seconds a kind waits for a word of the session before it gives up."""
MOST_FRAMES = 1000
"""Frames that wait to be looked at."""
FLOOD_MOST = 256 << 20
"""Bytes of one flood, however fast the session takes them."""
HELLO: dict[str, Any] = {
    "type": "hello", "protocol": 1, "version": "1", "python": "3.11.7", "kernel": "6.1", "pid": 7, "uid": 0,
    "user": "vscode", "host": "hostile", "facts": {
        "subnets": ["10.3.0.0/16"], "nameservers": ["10.3.0.2"], "search": [], "ssh_peer": None, "ipv6": True,
    },
}  # fmt: skip


class Over(Exception):
    """The session hung up, or said `stop`; there is nobody to be hostile to."""


class Silent(Exception):
    """The session said nothing where it should have: it does not live any more."""


class Wire:
    """The link of one hostile agent, with a random source of its own."""

    def __init__(self, seed: int, seconds: float, folder: Path, *, canary: int = 9) -> None:
        """`seconds`: how long floods and drips last; `folder`: where the next agent of this bridge finds `memory`;
        `canary`: the port on this machine's loopback that nothing may ever reach.
        """
        self.random = random.Random(seed)
        self.canary = canary
        self.seconds = seconds
        self.setup: dict[str, Any] = {}
        self.resume: dict[str, Any] = {}
        """The session's `resume` if this agent was started to go on with a bridge."""
        self.times = 0
        """How often the bridge was resumed."""
        self.honest = True
        """Whether what the session asks is answered."""
        self.acknowledges = True
        self.memory = folder / "hostile.json"
        self.taken = 0
        """PACKET bytes that came, those of earlier agents of this bridge among them."""
        self.sent = 0
        """PACKET bytes sent."""
        self._decoder = Decoder()
        self._framed = False
        """The session speaks in frames by now."""
        self._told = 0
        """PACKET bytes acknowledged."""
        self._frames: deque[tuple[int, bytes]] = deque()
        self._nonce = ""
        for descriptor in (0, 1):
            os.set_blocking(descriptor, False)

    # --- the start, step by step --------------------------------------------------------------------------------------

    def shell(self) -> None:
        """Read the line that a shell would, and print the word it asks for."""
        line = self._read_line()
        word = re.search(rb"netbridge ([0-9a-f]{16})", line)
        nonce = re.search(rb"m=\$m:([0-9a-f]{16}):", line)
        size = re.search(rb'"\$1" (\d+) "\$m"', line)
        assert word and nonce and size, line
        self._nonce, self._code = nonce[1].decode(), int(size[1])
        self.write(b"netbridge-" + word[1] + b"\n")

    def marker(self) -> bytes:
        """The agent's first line."""
        return f"NB:{self._nonce}:agent\n".encode()

    def begin(self) -> None:
        """As far as an honest agent's first line."""
        self.shell()
        self.take_code()
        self.write(self.marker())

    def take_code(self) -> None:
        """Read the agent's code to its end."""
        left = self._code
        while left:
            left -= len(self._read(left))
        self._framed = True

    def hello(self, **changes: Any) -> None:
        """Begin and say `hello`."""
        self.begin()
        self.say({**HELLO, **changes})

    def say_hello(self) -> None:
        """As an honest agent."""
        self.say(HELLO)

    def start(self, **changes: Any) -> None:
        """Up to the point where packets flow; `changes` are of `ready`. A bridge that is resumed is answered."""
        self.hello()
        self.wait_setup()
        if self.resume:
            self.answer_resume()
        else:
            self.ready(**changes)

    def wait_setup(self) -> None:
        """Wait for `setup` or `resume`."""
        message = self.wait("setup", "resume")
        if message["type"] == "setup":
            self.setup = message
        else:
            self.resume = message
            known = json.loads(self.memory.read_text())
            self.setup, self.taken, self.sent = known["setup"], known["taken"], known["sent"]
            self.times = known["times"] + 1

    def ready(self, **changes: Any) -> None:
        """The answer to `setup`."""
        setup = self.setup
        self.say({
            "type": "ready", "tun": setup["tun"], "offload": False, "routes": setup["routes"], "skipped": [],
            "own": ["10.3.0.0/16"], "dns": True, "listen": "127.83.0.1", "capture": "tun",
            "took": {"TUN": 0.01, "routes": 0.01, "names": 0.01}, **changes,
        })

    def answer_resume(self, **changes: Any) -> None:
        """The answer to `resume`."""
        self.say({"type": "resumed", "taken": self.taken, **changes})

    def remember(self) -> None:
        """For the next agent of this bridge."""
        self.memory.write_text(json.dumps({
            "setup": self.setup, "taken": self.taken, "sent": self.sent, "times": self.times,
        }))

    # --- speaking -----------------------------------------------------------------------------------------------------

    def say(self, message: dict[str, Any]) -> None:
        """A CONTROL message as an honest agent writes it."""
        self.write(control_frame(message))

    def frame(self, kind: int, payload: bytes) -> None:
        """A frame with a true length."""
        self.sent += len(payload) if kind == PACKET else 0
        self.write(frame_header(kind, len(payload)) + payload)

    def packet(self, packet: bytes) -> None:
        """An IP packet, as the TUN would give it."""
        self.frame(PACKET, bytes(10) + packet)

    def text(self, text: str) -> None:
        """A CONTROL frame with this text, whatever it is."""
        self.frame(CONTROL, text.encode("utf-8", "surrogatepass"))

    def echo_requests(self, size: int) -> Iterator[bytes]:
        """Pings to the bridge's gateway without an end, as frames."""
        source, gateway = self.addresses
        message = struct.pack(">BBHHH", 8, 0, 0, 1, 1) + bytes(size)
        message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        packet = bytes(10) + ipv4(source, gateway, 1, message)
        while True:
            self.sent += len(packet)
            yield frame_header(PACKET, len(packet)) + packet

    def next_packet(self, asking: bytes) -> bytes:
        """The next PACKET that comes; `asking` is sent until then, since there may be no stack yet. Silent without."""
        for _ in range(int(PATIENCE / 0.1)):
            self.write(asking)
            for kind, payload in self._hear(0.1):
                self._answer(kind, payload)
                if kind == PACKET:
                    return payload
        raise Silent("no packet")

    def echo(self) -> None:
        """Ping the gateway once, and take the answer. Silent when none comes."""
        self.next_packet(next(self.echo_requests(20000)))

    @property
    def addresses(self) -> tuple[bytes, bytes]:
        """The TUN's IPv4 address and the gateway's."""
        mine = ip_address(self.setup["addresses"][0].partition("/")[0]).packed
        return mine, ip_address(self.setup["gateways"][0]).packed

    def write(self, data: bytes) -> None:
        """All of it, taking what comes meanwhile."""
        self.flood([data], seconds=PATIENCE)

    def flood(self, pieces: Iterable[bytes], *, seconds: float = 0.0, reads: bool = True) -> int:
        """Write as fast as it is taken, for so long at most, then the rest of what was begun; the bytes written."""
        end = time.monotonic() + (seconds or self.seconds)
        written = 0
        for piece in pieces:
            if time.monotonic() > end or written > FLOOD_MOST:
                break
            view = memoryview(piece)
            while view:
                if time.monotonic() > end + PATIENCE:
                    raise Silent("the session takes nothing")
                readable, writable, _ = select.select([0] if reads and self._framed else [], [1], [], PATIENCE)
                if readable:
                    self._take()
                if writable:
                    try:
                        count = os.write(1, view)
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        raise Over from error
                    written += count
                    view = view[count:]
        return written

    def drip(self, data: bytes, pause: float) -> None:
        """A byte at a time, for as long as a kind lasts."""
        end = time.monotonic() + self.seconds
        for place in range(len(data)):
            if time.monotonic() > end:
                return
            self.write(data[place : place + 1])
            self.serve(pause)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def wait(self, *types: str) -> dict[str, Any]:
        """The next CONTROL message of these types; the others are answered. Silent when none comes."""
        for kind, payload in self._hear(PATIENCE):
            if kind == CONTROL and (message := parse_control(memoryview(payload)))["type"] in types:
                return message
            self._answer(kind, payload)
        raise Silent(f"no {' or '.join(types)}")

    def alive(self) -> None:
        """The session still answers. Silent when it does not."""
        for _ in range(int(PATIENCE / 0.5)):  # who has not read before gets no PONG
            mine = self.random.randbytes(8)
            self.write(frame_header(PING, 8) + mine)
            for kind, payload in self._hear(0.5):
                if kind == PONG and payload == mine:
                    return
                self._answer(kind, payload)
        raise Silent("no PONG")

    def serve(self, seconds: float = 3600.0) -> None:
        """Be honest for so long, or until the end."""
        for kind, payload in self._hear(seconds):
            self._answer(kind, payload)

    def deaf(self, seconds: float) -> None:
        """Neither hear nor say anything; only the session's end is noticed."""
        poll = select.poll()
        poll.register(0, 0)
        if poll.poll(seconds * 1000) and not self._framed:
            raise Over  # what lies unread is no conversation

    def _hear(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        end = time.monotonic() + seconds
        while True:
            while self._frames:
                yield self._frames.popleft()
            left = end - time.monotonic()
            if left <= 0:
                return
            if select.select([0], [], [], left)[0]:
                self._take()

    def _take(self) -> None:
        """Read once; frames wait in a queue."""
        data = self._read_some(1 << 18)
        for kind, payload in self._decoder.feed(memoryview(data)):
            self.taken += len(payload) if kind == PACKET else 0
            if len(self._frames) < MOST_FRAMES or kind == CONTROL:  # not a flood's echoes
                self._frames.append((kind, bytes(payload)))

    def _answer(self, kind: int, payload: bytes) -> None:
        if kind == PACKET:
            if self.acknowledges and self.taken > self._told:
                self._told = self.taken
                self.write(ack_frame(self.taken))
        elif kind == PING and self.honest:
            self.write(frame_header(PONG, 8) + payload)
        elif kind == CONTROL and self.honest:
            message = parse_control(memoryview(payload))
            if message["type"] == "stop":
                self.say({"type": "stopped"})
                raise Over
            if answer := ANSWERS.get(message["type"]):
                self.say({"number": message.get("number"), **answer(message)})

    def _read(self, most: int) -> bytes:
        if not select.select([0], [], [], PATIENCE)[0]:
            raise Silent("the session sends nothing")
        return self._read_some(most)

    def _read_some(self, most: int) -> bytes:
        try:
            data = os.read(0, most)
        except OSError as error:
            raise Over from error
        if not data:
            raise Over
        return data

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(1)
        return line


ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "names": lambda message: {"type": "names_changed"},
    "routes": lambda message: {"type": "routes_changed", "routes": message["routes"], "skipped": [], "own": []},
    "host_routes": lambda message: {"type": "host_routes_changed", "skipped": []},
    "trace": lambda message: {"type": "traced"},
}
"""What an honest agent says to what may be asked at any time."""


def complain(text: str) -> None:
    """A line on standard error, which the session shows as the target's own words."""
    os.set_blocking(2, True)
    view = memoryview((text + "\n").encode("utf-8", "surrogatepass"))
    while view:
        view = view[os.write(2, view) :]


# --- packets --------------------------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet; the checksum of TCP or UDP in `payload` is put where it belongs."""
    place = {6: 16, 17: 6}.get(protocol)
    if place is not None:
        pseudo = source + destination + struct.pack(">HH", protocol, len(payload))
        total = checksum(pseudo + payload)
        payload = payload[:place] + struct.pack(">H", total) + payload[place + 2 :]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def tcp(port: int, to: int, flags: int, sequence: int = 1, acknowledges: int = 0, data: bytes = b"") -> bytes:
    """A TCP segment without its checksum."""
    return struct.pack(">HHIIBBHHH", port, to, sequence, acknowledges, 0x50, flags, 65535, 0, 0) + data


def udp(port: int, to: int, data: bytes) -> bytes:
    """A UDP datagram without its checksum."""
    return struct.pack(">HHHH", port, to, 8 + len(data), 0) + data


__all__ = [
    "ACK", "CONTROL", "COUNT", "HELLO", "PACKET", "PING", "PONG", "Over", "Silent", "Wire", "ack_frame", "checksum",
    "complain", "control_frame", "frame_header", "ipv4", "tcp", "udp",
]  # fmt: skip
