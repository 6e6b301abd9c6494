"""The little of HTTP that a scrape needs: one GET a connection.

It runs in the bridge's own event loop, so a scrape costs what its numbers cost, a millisecond or two; those who ask are
few, are given little time and nothing but numbers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from .. import events
from ..errors import BridgeError
from ..sentences import sentences
from ..shortage import todo
from .exposition import OPENMETRICS, PROMETHEUS, text
from .families import families, kinds

if TYPE_CHECKING:
    from ..session import Session

REQUEST_MAX = 8192
"""Bytes of a request's head."""
SECONDS = 5.0
"""For a request and its answer; Prometheus itself gives up after ten."""
MOST = 8
"""Connections at a time; one more takes the place of the oldest, so those who only connect keep nobody out."""
SHARE = 0.02
"""Of the event loop's time that may go into numbers: who asks more often gets those of before."""


class MetricsServer:
    """Serves the numbers of one bridge while it is open."""

    def __init__(self, session: Session, place: str, tell: events.EventSink) -> None:
        """`place`: ADDRESS:PORT, IPv6 in brackets."""
        self._session = session
        self._place = place
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}
        """The oldest first."""
        self._made: dict[bool, tuple[float, str]] = {}
        """By form: until when it is served, and the numbers."""

    async def start(self) -> None:
        """Listen, and say where. Raises BridgeError."""
        address, _, port = self._place.rpartition(":")
        address = address.strip("[]")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with ExitStack() as exits:
            try:  # asyncio would pass over a socket that is not to be had, and serve nobody
                listener = exits.enter_context(socket.create_server((address, int(port)), family=family))
                port = listener.getsockname()[1]
                self._server = await asyncio.start_server(self._serve, sock=listener, limit=REQUEST_MAX)
            except OSError as error:
                raise BridgeError(
                    f"Metrics cannot be served at {self._place}.", f"{error.strerror or error}.",
                    todo(error, "Name another ADDRESS:PORT by --metrics."),
                ) from error
            exits.pop_all()
        shown = f"[{address}]" if ":" in address else address
        self._tell(events.Metrics(f"http://{shown}:{port}/metrics", not ipaddress.ip_address(address).is_loopback))

    async def close(self) -> None:
        """Serve no more. Idempotent."""
        server, self._server = self._server, None
        if server:
            server.close()
            for writer in self._open:
                writer.transport.abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= MOST:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in {"GET", "HEAD"}:
            return _response("405 Method Not Allowed", "text/plain", "Only GET.\n", "Allow: GET, HEAD\r\n")
        if path not in {"/", "/metrics"}:
            return _response("404 Not Found", "text/plain", "See /metrics.\n")
        accepted = [value for name, _, value in (line.partition(":") for line in lines) if name.lower() == "accept"]
        openmetrics = any("application/openmetrics-text" in value.lower() for value in accepted)
        wanted = kinds(self._session)
        await asyncio.to_thread(lambda: [sentences(kind) for kind in wanted])  # parsed once; packets do not wait for it
        body = self._numbers(openmetrics)
        answer = _response("200 OK", OPENMETRICS if openmetrics else PROMETHEUS, body)
        return answer if method == "GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


    def _numbers(self, openmetrics: bool) -> str:
        began = time.monotonic()
        until, body = self._made.get(openmetrics, (0.0, ""))
        if began >= until:
            body = text(families(self._session), openmetrics=openmetrics)
            now = time.monotonic()
            self._made[openmetrics] = now + (now - began) / SHARE, body
        return body


def _response(status: str, kind: str, body: str, more: str = "") -> bytes:
    data = body.encode(errors="backslashreplace")  # a name may hold what is no UTF-8
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}Connection: close"
    return f"{head}\r\n\r\n".encode() + data
