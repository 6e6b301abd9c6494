"""A running bridge can be asked for its state and told to stop, over a unix socket of mode 0600.

One JSON object a line each way: `{"ask": "status"}` is answered by the state (`"flows": N`: with so many flows at
most, since finding the latest of thousands takes its time), `{"ask": "stop"}` (with `why`, if the asker likes) by
`{"stopping": true}`, and then the connection stays open until the bridge is gone, so end of file tells the asker
that it is. `{"ask": "connect", "host": …, "port": …}` is answered by `{"connected": true, "connection": N}`, and then
it carries the bytes of a place over there (`bridge/back`), or by an `error` and its `code`; `{"ask": "ended",
"connection": N}` tells afterwards whether it broke. `{"ask": "trace", "host": …, "port": …}` is answered when it is
known how that destination travels (`bridge/trace`). `{"ask": "capture", "filter": …}` is answered by `{"capturing":
true}` and a pcapng stream (`bridge/captures.py`), or by an `error` and its `code`. `{"ask": "watch", …}` is answered by
a stream of lines until one side hangs up (`bridge/feed.py`); the same request again changes what is sent. Anything
else is answered by
`{"error": "…"}` and closed. Only root, the bridge's own user and the user who called sudo are heard (SO_PEERCRED where
the system has it, besides the modes of folder and socket).

`ask` and `statuses` are the other end; they are plain blocking functions with a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, cast

from .agent.peers import peer_uid
from .back.ends import End
from .errors import BridgeError, TargetUnreachableError
from .runtime import Folder, Reservation
from .shortage import todo

REQUEST_MAX = 4096
"""Bytes of one request; with a host name it has three hundred."""
REQUEST_SECONDS = 5.0
"""A connection that asks nothing for so long is closed."""
REASON_MAX = 100
"""Characters of the reason for a stop."""
CONNECTIONS_MAX = 16
"""At most so many askers at once; one more is closed unheard."""
WATCHERS_MAX = 8
"""At most so many of them watch, which takes no end: the others can still ask, and stop the bridge."""
ANSWER_MAX = 64 << 20
"""Bytes of one answer that an asker reads: 100,000 flows fit."""


Trace = Callable[[Mapping[str, Any]], Coroutine[Any, Any, Mapping[str, Any]]]
"""Takes a request and gives its answer later."""


class Streams(Protocol):
    """Who carries connections into the codespace."""

    def serve(self, request: Mapping[str, Any], asker: End) -> None:
        """Answer `connect` in one line, and carry what follows. What came behind the request is in `asker.held`."""

    def ended(self, number: object) -> str:
        """Why a connection broke; empty when it did not."""


Capture = Callable[[Mapping[str, Any], End], None]
"""Takes a request and the connection that gets packets."""


class Watching(Protocol):
    """One asker's stream."""

    def change(self, request: Mapping[str, Any]) -> None:
        """Send something else from now on."""

    def close(self) -> None:
        """Send no more."""


Watch = Callable[[Mapping[str, Any], Callable[[bytes], bool]], Watching]
"""Takes a request and who takes its lines; that says False, and drops the line, while one before is not read."""


class Control:
    """The serving end of one bridge."""

    def __init__(
        self, reservation: Reservation, status: Callable[..., Mapping[str, Any]], stop: Callable[[str], None],
        streams: Streams | None = None, trace: Trace | None = None, capture: Capture | None = None,
        watch: Watch | None = None,
    ) -> None:
        """`status` gives a JSON-able mapping at once, with `flows=N` a short one; `stop` is told the reason; `trace`
        takes some seconds; `capture` gives packets.
        """
        self._reservation = reservation
        self._status = status
        self._stop = stop
        self._streams = streams
        self._trace = trace
        self._capture = capture
        self._watch = watch
        self._carried: set[_Carried] = set()
        self._server: asyncio.Server | None = None
        self._connections: set[_Asker] = set()
        self._users = {0, os.geteuid(), reservation.folder.owner}

    async def start(self) -> None:
        """Listen. Raises BridgeError."""
        folder, name = self._reservation.folder, self._reservation.socket_name
        with contextlib.ExitStack() as exits:
            try:
                listener = exits.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                listener.bind(folder.address(name))
                folder.give(name, 0o600)
                listener.listen(CONNECTIONS_MAX)
                listener.setblocking(False)
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(lambda: _Asker(self), sock=listener)
            except OSError as error:
                raise BridgeError(
                    f"The control socket {folder.path / name} cannot be opened.", f"{error.strerror}.",
                    todo(error, "Set NETBRIDGE_RUNTIME_DIR to a folder of your own."),
                ) from error
            exits.pop_all()

    async def close(self) -> None:
        """Hang up on everybody (which tells those who asked for a stop) and remove the socket."""
        if self._server:
            self._server.close()
            for connection in list(self._connections):
                connection.hang_up()
            for carried in list(self._carried):
                carried.fail("The bridge ended.")
            with contextlib.suppress(TimeoutError):  # an asker that reads nothing keeps nobody
                async with asyncio.timeout(0.5):
                    await self._server.wait_closed()
            self._server = None
        self._reservation.folder.remove(self._reservation.socket_name)

    def _admit(self, asker: _Asker, connection: socket.socket) -> bool:
        if len(self._connections) >= CONNECTIONS_MAX:
            return False
        try:
            uid = peer_uid(connection)
        except OSError:  # who it is cannot be known
            return False
        if uid is not None and uid not in self._users:
            return False
        self._connections.add(asker)
        return True

    def _answer(self, line: bytes, asker: _Asker) -> tuple[Mapping[str, Any] | None, bool]:
        """The answer to one request (None: another gives it), and whether the connection stays open."""
        try:
            request = json.loads(line)
            wish = request["ask"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"error": "a request is one JSON object such as {\"ask\": \"status\"}"}, False
        if wish == "connect" and self._streams:
            self._streams.serve(request, asker.hand_over())
            return None, True
        if wish == "ended" and self._streams:
            return {"broken": self._streams.ended(request.get("connection"))}, True
        if wish == "trace" and self._trace:
            asker.answer_later(self._trace(request))
            return None, True
        if wish == "capture" and self._capture:
            self._capture(request, asker.hand_over())
            return None, True
        if wish == "watch" and self._watch:
            if not asker.watches and sum(other.watches for other in self._connections) >= WATCHERS_MAX:
                return {"error": f"{WATCHERS_MAX} watch it already", "code": "EBUSY"}, False
            asker.watch(self._watch, request)
            return None, True
        if wish == "status":
            most = request.get("flows")
            return self._status(flows=most) if isinstance(most, int) else self._status(), True
        if wish == "stop":
            self._stop(str(request.get("why") or "asked by netbridge down")[:REASON_MAX])
            return {"stopping": True}, True
        return {"error": f"nothing is known about {str(wish)[:40]!r}"}, False


class _Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._later: asyncio.Task[Mapping[str, Any]] | None = None
        self._watching: Watching | None = None
        self._full = False
        """Answers wait to be read; nothing more is answered before."""

    @property
    def watches(self) -> bool:
        return self._watching is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        if not self._control._admit(self, transport.get_extra_info("socket")):
            transport.abort()
            return
        self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self._full and self._transport:
            self._transport.abort()  # it would wait for a reader for ever
        else:
            self.hang_up()

    def pause_writing(self) -> None:
        self._full = True
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()
            self._answer_all()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > REQUEST_MAX:
            self.hang_up()
            return
        self._answer_all()

    def _answer_all(self) -> None:
        transport = self._transport
        while (
            transport and not transport.is_closing() and b"\n" in self._buffer and self._later is None
            and not self._full
        ):
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer = bytearray(rest)
            answer, stays = self._control._answer(line, self)
            if answer is None:
                if self._watching:
                    continue
                return
            transport.write(json.dumps(answer, default=str).encode() + b"\n")
            if not stays:
                self.hang_up()
            elif not self._watching:
                self._wait()
                if "stopping" in answer and self._timer:
                    self._timer.cancel()

    def watch(self, begin: Watch, request: Mapping[str, Any]) -> None:
        """Lines are sent from now on; there is time for further requests."""
        if self._watching:
            self._watching.change(request)
            return
        if self._timer:
            self._timer.cancel()
        self._watching = begin(request, self._take_line)

    def _take_line(self, line: bytes) -> bool:
        if self._transport is None or self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        self._transport.write(line)
        return True

    def hand_over(self) -> End:
        """From now on the connection carries bytes; what there is of them already goes along."""
        assert self._transport
        if self._timer:
            self._timer.cancel()
        if self._watching:
            self._watching.close()
            self._watching = None
        self._control._connections.discard(self)
        carried = _Carried(self._control._carried)
        self._transport.set_protocol(carried)
        carried.connection_made(self._transport)
        carried.held += self._buffer
        return carried

    def answer_later(self, work: Coroutine[Any, Any, Mapping[str, Any]]) -> None:
        """Answer with what `work` gives, and hang up; whoever went away meanwhile ends it."""
        if self._timer:
            self._timer.cancel()
        self._later = asyncio.get_running_loop().create_task(work)
        self._later.add_done_callback(self._known)

    def _known(self, task: asyncio.Task[Mapping[str, Any]]) -> None:
        if task.cancelled() or self._transport is None:
            return
        error = task.exception()
        answer = {"error": f"{type(error).__name__}: {error}"} if error else task.result()
        self._transport.write(json.dumps(answer, default=str).encode() + b"\n")
        self.hang_up()

    def hang_up(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        if self._later:
            self._later.cancel()
        if self._watching:
            self._watching.close()
        self._control._connections.discard(self)


class _Carried(End):
    """A connection that carries bytes. Whoever closes it without having ended his side first went away."""

    def __init__(self, all_: set[_Carried]) -> None:
        super().__init__()
        self._all = all_
        all_.add(self)

    def left(self) -> None:
        self.fail("The asker went away.")

    def eof_received(self) -> bool:
        if self.partner is not None and not self.partner.ended and self._hung_up():
            self.fail("The asker went away.")
            return True
        return super().eof_received()

    def _hung_up(self) -> bool:
        assert self.transport
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)


# --- the asking end -----------------------------------------------------------------------------------------------


def ask(
    folder: Folder, number: int, wish: str, *, timeout: float = 5.0, until_gone: float = 0.0, **fields: object,
) -> dict[str, Any]:
    """Ask bridge `number`; with `until_gone` wait so many seconds for its end after the answer. `fields` go along.

    Raises TargetUnreachableError when there is none or it does not answer, BridgeError when it does not end.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(folder.address(f"{number}.sock"))
            folder.check_peer(connection)
            connection.sendall(json.dumps({"ask": wish, **fields}).encode() + b"\n")
            answer = _line(connection)
            if until_gone:
                connection.settimeout(until_gone)
                try:
                    while connection.recv(4096):
                        pass
                except TimeoutError:
                    raise BridgeError(
                        f"Bridge {number} was told to stop and is still there.",
                        f"It has taken more than {until_gone:.0f} s.", "Look at its own output, or end its process.",
                    ) from None
    except (OSError, ValueError) as error:
        raise TargetUnreachableError(
            f"Bridge {number} does not answer.", f"{error}.", "Look whether it still runs (`netbridge status`).",
        ) from error
    return answer


def _line(connection: socket.socket) -> dict[str, Any]:
    received = bytearray()
    while not received.endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionError("it hung up")
        received += data
        if len(received) > ANSWER_MAX:
            raise ValueError("its answer does not end")
    answer: dict[str, Any] = json.loads(received)
    return answer


def statuses(folder: Folder, *, flows: int | None = None) -> list[dict[str, Any]]:
    """The state of every living bridge of this folder, by number; one that does not answer has only an `error`.

    With `flows` each state has so many of them at most.
    """
    found = []
    fields: dict[str, Any] = {} if flows is None else {"flows": flows}
    for number in folder.running():
        try:
            found.append({"number": number, **ask(folder, number, "status", **fields)})
        except TargetUnreachableError as error:
            if isinstance(error.__cause__, (ConnectionRefusedError, FileNotFoundError)):
                continue  # just starting or just gone
            found.append({"number": number, "error": str(error)})
    return found
