"""The service on the stack that connections back come home to.

Asked for a place in the codespace, it sends the agent a `dial` message; the agent connects there and then through the
TUN to this service (see `bridge/agent/back.py`, which says why that way round), names the message's number, and from
then on bytes pass. While nothing has come the message is repeated, so that one lost with a broken connection costs
seconds and not the connect.

For the ssh-agent the agent connects unasked, and is led to the socket that SSH_AUTH_SOCK names here.

Any program over there can connect to the port. It gets a few seconds to say the secret that only the agent knows, and
of those that have not said it yet the oldest gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netbridge.stack.server import Server
from netbridge.stack.stack import Stack

from ..addresses import Addresses
from ..plain import clean
from ..user import User, in_person
from .calls import Call, Greeting, answer
from .ends import End, join

PORT = 6272
"""On the stack's own addresses, where nothing else listens but DNS."""
REMEMBERED = 256
"""Connections that broke, kept for whoever asks afterwards how they ended."""
HOST_MAX = 253
"""Characters of a host name (RFC 1035 section 2.3.4)."""
TEXT_MAX = 200
"""Characters of the agent's own words."""

Send = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class BackCounters:
    """What the way back was used for."""

    opened: int = 0
    """Connections to places over there."""
    refused: int = 0
    """Asked for and not reached."""
    agent: int = 0
    """Connections to the ssh-agent here."""
    strangers: int = 0
    """Connections to the service that did not know the secret."""


class WayBack:
    """One bridge's way back. `serve` may be called at any time; it works between `open` and `close`."""

    def __init__(self, agent: str = "", user: User | None = None) -> None:
        """`agent`: the path of the ssh-agent's socket, empty for none; `user` is who may use it."""
        self.counters = BackCounters()
        self._agent_path = agent
        self._user = user
        self._secret = secrets.token_hex(16)
        self._stack: Stack | None = None
        self.most = 0
        """Connections at a time, those asked for included."""
        self._servers: list[Server] = []
        self._send: Send = lambda message: None
        self._number = 0
        self._calls: dict[int, Call] = {}
        self._greetings: OrderedDict[Greeting, None] = OrderedDict()
        self._joined: set[End] = set()
        self._broken: OrderedDict[int, str] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the bridge's side

    def setup(self, addresses: Addresses, most: int) -> dict[str, Any]:
        """The field `back` of `setup`; `most` connections at a time are carried over there."""
        return {
            "gateways": list(addresses.gateways), "port": PORT, "secret": self._secret, "most": most,
            "agent": bool(self._agent_path),
        }

    async def open(self, stack: Stack, send: Send, most: int) -> None:
        """Serve on a stack, `most` connections at a time. `send` gives the agent a control message and may fail."""
        self.most = most
        self._send = send
        self._servers.append(await stack.create_server(lambda: Greeting(self), None, PORT))
        self._stack = stack

    def close(self) -> None:
        """Reset every connection and take no more. Idempotent."""
        self._stack = None
        for server in self._servers:
            server.close()
        self._servers.clear()
        for call in list(self._calls.values()):
            call.refuse("The bridge ends.", "ESHUTDOWN")
        for end in [*self._greetings, *self._joined]:
            end.fail("The bridge ended.")
        for task in self._tasks:
            task.cancel()

    @property
    def used(self) -> int:
        """Of `most`."""
        return len(self._calls) + len(self._joined) + len(self._tasks)

    @property
    def open_now(self) -> int:
        """Connections that carry bytes."""
        return len(self._joined)

    # -- Streams (see bridge/control.py): who asks over the control socket

    def serve(self, request: Mapping[str, Any], asker: End) -> None:
        """Connect the asker to `host` and `port` over there: one line of JSON, then bytes."""
        host, port = request.get("host"), request.get("port")
        if not isinstance(host, str) or not isinstance(port, int) or not 0 < port < 65536 or not is_host(host):
            answer(asker, {"error": "This is no host name and port.", "code": "EINVAL"})
        elif self._stack is None:
            answer(asker, {"error": "The bridge is not ready.", "code": "EAGAIN"})
        elif self.used >= self.most:
            answer(asker, {"error": f"{self.most} connections are open already.", "code": "EMFILE"})
        else:
            self._number += 1
            self._calls[self._number] = Call(self, self._number, (host, port), asker)

    def ended(self, number: object) -> str:
        """Why a connection broke; empty when it ended in order, or still lives."""
        return self._broken.get(number, "") if isinstance(number, int) else ""

    # -- the agent's side

    def _greeted(self, end: Greeting, line: bytes) -> None:
        """The first line came; whose connection is it?"""
        try:
            first = json.loads(line)
            known = hmac.compare_digest(str(first["secret"]).encode(), self._secret.encode())
            purpose = first["for"]
        except (ValueError, KeyError, TypeError, RecursionError):
            known, purpose = False, None
        if not known:
            self.counters.strangers += 1
            end.fail("It is no connection of the agent's.")
        elif purpose == "agent" and self._agent_path and self.used < self.most:
            task = asyncio.get_running_loop().create_task(self._to_agent(end))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not isinstance(purpose, int) or (call := self._calls.get(purpose)) is None:
            end.fail("Nobody waits for it.")
        elif "error" in first:
            end.fail("It is over.")
            call.refuse(_words(first["error"]), _words(first.get("code")))
        else:
            call.reached(end)

    async def _to_agent(self, end: End) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        agent = End()
        try:
            with in_person(self._user) if self._user else contextlib.nullcontext():
                connection.connect(self._agent_path)
            await asyncio.get_running_loop().create_unix_connection(lambda: agent, sock=connection)
        except OSError:  # gone, or too busy to take another connection
            connection.close()
            end.fail("There is no ssh-agent.")
            return
        self.counters.agent += 1
        self._keep(end)
        join(end, agent)

    def _keep(self, end: End, number: int = 0) -> None:
        self._joined.add(end)

        def over(why: str) -> None:
            self._joined.discard(end)
            if why and number:
                self._broken[number] = why
                while len(self._broken) > REMEMBERED:
                    self._broken.popitem(last=False)

        end.on_over = over


def is_host(text: str) -> bool:
    """Whether this may be a host's name or address."""
    return 0 < len(text) <= HOST_MAX and text.isascii() and text.isprintable() and " " not in text


def _words(value: object) -> str:
    """The agent's own words, which are untrusted."""
    return clean(str(value), TEXT_MAX)
