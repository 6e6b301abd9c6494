"""Starting the agent over a channel, and talking to it.

    options = AgentOptions()
    channel = await transport.open(agent_command(options))
    agent = await start_agent(channel, options=options)      # agent.hello
    ready = await agent.setup(request)                        # agent.link is usable now
    ...
    await agent.stop()

A start has stages, each with its own time limit: code out and marker back, `hello`, `setup` → `ready`. Whatever
fails is one BridgeError of three sentences with an exit code. What comes from the target (banners, messages, names)
is untrusted: bounded, and stripped of control characters before it becomes part of an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netbridge.stack.link.base import Link, LinkError

from .agent import PROTOCOL
from .agent.frames import FrameError
from .errors import BridgeError, TakenOverError, TargetLacksError, TargetUnreachableError
from .firststage import agent_code, command, new_nonce
from .link import FramedLink
from .startfaults import closed_early, printable, refused_setup, refused_start, timed_out
from .transport.base import Channel, ChannelUser, Transport
from .transport.mend import IN_GENERAL, Mend

logger = logging.getLogger(__name__)

MAX_NOISE = 256 * 1024
"""Bytes of banners and rc-file output before the marker; more is no login shell."""
MAX_MARKER = 4096
"""Bytes of the marker's line, and how far back it is looked for: who prints a byte at a time must not have all of his
noise searched for each."""
MAX_REPORTS = 50
"""Errors told unasked that are shown; the target must not fill this machine's log."""
NO_ANSWER = ("tun_lost", "taken_over", "containers")
"""Codes of errors that are never the answer to a question, even when one is open."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How to start an agent."""

    timeout: float = 30.0
    """Seconds for each stage."""
    nonce: str = field(default_factory=new_nonce)
    """Makes this start's marker unlike anything else; the same in the command and in `start_agent`."""
    mend: Mend = IN_GENERAL
    """What to say where the target lacks something."""


def agent_command(options: AgentOptions) -> str:
    """The shell command that `start_agent` expects to be running on its channel."""
    return command(options.nonce)


class _Marker(ChannelUser):
    """Waits for the marker's line on the channel and keeps what follows it."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self._seen = bytearray()
        self._begin = -1
        """Where the marker stands, once it is there."""
        self.line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.rest = bytearray()

    def data_received(self, data: memoryview) -> None:
        if self.line.done():
            self.rest += data
            return
        searched = max(0, len(self._seen) - len(self._marker))  # a target that prints byte by byte costs no more
        self._seen += data
        if self._begin < 0:
            self._begin = self._seen.find(self._marker, searched)
        begin = self._begin
        if begin < 0 or begin > MAX_NOISE:
            if len(self._seen) > MAX_NOISE + len(self._marker):
                self.line.set_exception(TargetUnreachableError(
                    "The agent did not start.",
                    f"The target printed {len(self._seen)} bytes that are not the agent's.",
                    "See that its login scripts are quiet when there is no terminal.",
                ))  # fmt: skip
            return
        end = self._seen.find(b"\n", max(begin, searched))
        if end < 0 or end - begin > MAX_MARKER:
            if len(self._seen) - begin > MAX_MARKER:
                self.line.set_exception(TargetUnreachableError(
                    "The agent did not start.", "Its first line has no end.",
                    "See with --trace-level debug what the target prints.",
                ))  # fmt: skip
            return
        self.rest += self._seen[end + 1 :]
        self.line.set_result(self._seen[begin + len(self._marker) : end].decode("utf-8", "replace"))

    def burst_ended(self) -> None:
        pass

    def channel_ready(self) -> None:
        pass

    def channel_lost(self, error: Exception | None) -> None:
        if not self.line.done():
            self.line.set_exception(error or EOFError())


class AgentHandle:
    """A running agent."""

    def __init__(self, channel: Channel, options: AgentOptions) -> None:
        self.channel = channel
        self.hello: dict[str, Any] = {}
        """The `hello` message: python, kernel, user, host, facts."""
        self.ready: dict[str, Any] = {}
        """The `ready` message after `setup`."""
        self.on_lost: Callable[[Exception | None], None] | None = None
        """Called once when the agent is gone, whoever ended it; None as error when `stop` or `close` did."""
        self.on_cut: Callable[[Exception | None], None] | None = None
        """Called when the connection broke and the agent may still be there: see `outlive` and `resume`."""
        self.on_routes: Callable[[dict[str, Any]], None] | None = None
        """Called with each `routes_changed` that nobody asked for: the target's own networks changed."""
        soon = asyncio.get_running_loop().call_soon
        self.framed = FramedLink(
            channel, on_control=self._control, on_lost=self._lost, on_cut=self._cut, soon=soon
        )
        self.link: Link = self.framed
        """Where the codespace's packets come from; decided by `setup`."""
        self.lost = False
        self._timeout = options.timeout
        self._mend = options.mend
        self._reports = 0
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._expected: tuple[str, ...] = ()
        self._number: int | None = None
        """What the answer has to repeat; None: nothing."""
        self._talk = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._traces: dict[int, asyncio.Future[dict[str, Any]]] = {}
        """Those under way, by number."""
        self._session: dict[str, Any] = {}

    async def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send `setup` (the fields of the protocol, without `type`); the `ready` message. Raises a BridgeError."""
        self._session = request.get("session") or {}
        self.ready = await self._ask({"type": "setup", **request}, "ready")
        self.framed.mtu = int(request["mtu"])
        self.framed.offload = self.ready.get("offload") is True
        if request.get("pass_tun"):
            self.link = self._tun_link(int(request["mtu"]))
        return self.ready

    async def change_routes(self, routes: Sequence[str], exclude: Sequence[str]) -> dict[str, Any]:
        """Capture other networks from now on; the `routes_changed` message. Raises a BridgeError."""
        request = {"type": "routes", "routes": list(routes), "exclude": list(exclude)}
        return await self._change(request, "routes_changed")

    async def change_names(self, suffixes: Sequence[str], search: Sequence[str]) -> None:
        """From now on ask here first for names under these suffixes, and search these domains. Raises a BridgeError."""
        await self._change({"type": "names", "suffixes": list(suffixes), "search": list(search)}, "names_changed")

    async def make_host_routes(self, addresses: Sequence[tuple[str, float]]) -> dict[str, Any]:
        """Capture single addresses, each for so many seconds (0: no longer); the `host_routes_changed` message."""
        listed = [{"address": address, "seconds": round(seconds, 1)} for address, seconds in addresses]
        return await self._change({"type": "host_routes", "addresses": listed}, "host_routes_changed")

    def outlive(self) -> None:
        """From now on the bridge outlives its connection: its end is told to `on_cut`, and `resume` is possible."""
        self.framed.lasting = bool(self._session.get("grace"))

    async def resume(self, channel: Channel, options: AgentOptions) -> None:
        """Go on over another channel, on which `agent_command(options)` runs.

        Raises BridgeGoneError when there is nothing to go on with, else a BridgeError; the channel is then closed.
        """
        try:
            rest = await _reach(channel, options)
            async with self._talk:  # whoever has something to ask does it when the old agent listens again
                self.channel = channel
                self.framed.attach(channel)
                await self._greeting(rest)
                name, secret = self._session["name"], self._session["secret"]
                await self._say(
                    {"type": "resume", "session": name, "secret": secret, "taken": self.framed.taken}, "resumed"
                )
        except BaseException:
            self.framed.detach(channel)
            channel.close()
            raise

    async def stop(self) -> None:
        """Let the agent undo everything and end. Returns when it did, or when its time is over; never raises."""
        if not self.lost:
            with contextlib.suppress(BridgeError, LinkError):
                await self._ask({"type": "stop"}, "stopped")
        self.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await self.channel.wait_closed()

    def close(self) -> None:
        """End the link at once; the agent sees the end of its stdin and undoes everything."""
        self.framed.close()

    async def ping(self, patience: float | None = None) -> float:
        """Seconds to the agent and back on the link. TimeoutError after `patience`, LinkError when it is gone."""
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def set_result(seconds: float) -> None:
            if not answered.done():
                answered.set_result(seconds)

        if not self.framed.ping(set_result):
            raise LinkError("link_lost: no PING can be sent")
        async with asyncio.timeout(patience or self._timeout):
            return await answered

    async def trace(self, request: Mapping[str, Any], patience: float) -> dict[str, Any]:
        """How a name and its addresses look from there: the `traced` message, untrusted. It waits for no other
        question, and no other waits for it. TimeoutError after `patience` seconds, LinkError when the agent is gone.
        """
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._traces[number] = answer
        try:
            self.framed.send_control({"type": "trace", "number": number, **request})
            async with asyncio.timeout(patience):
                return await answer
        finally:
            del self._traces[number]

    async def probe(self, **what: Any) -> dict[str, Any]:
        """What the place permits: the `probed` message, untrusted. Before `setup`. Raises a BridgeError."""
        return await self._ask({"type": "probe", **what}, "probed")

    async def _ask(self, request: dict[str, Any], answer: str) -> dict[str, Any]:
        async with self._talk:
            return await self._say(request, answer)

    async def _change(self, request: dict[str, Any], answer: str) -> dict[str, Any]:
        """Ask for what may be asked again and again: an answer that comes too late must not be the next one's."""
        return await self._ask({**request, "number": next(self._numbers)}, answer)

    async def _say(self, request: dict[str, Any], answer: str) -> dict[str, Any]:
        try:
            future = self._expect(answer, "error")
            self._number = request.get("number")
            self.framed.send_control(request)
            async with asyncio.timeout(self._timeout):
                message = await future
        except TimeoutError:
            raise timed_out(f"did not answer `{request['type']}`", self._timeout, self.channel) from None
        except (LinkError, EOFError) as error:
            raise closed_early(f"went away during `{request['type']}`", error, self.channel) from error
        finally:
            self._answer = None
        if message["type"] == "error":
            raise refused_setup(message, self._mend)
        return message

    def _expect(self, *types: str) -> asyncio.Future[dict[str, Any]]:
        if self.lost:
            raise LinkError("link_lost: the agent is gone")
        self._expected, self._number = types, None
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    async def greet(self, first: memoryview) -> None:
        """Take the stream over from the marker's search (`first` came with it) and wait for `hello`."""
        self.hello = await self._greeting(first)

    async def _greeting(self, first: memoryview) -> dict[str, Any]:
        future = self._expect("hello")
        self.framed.data_received(first)
        self.channel.start(self.framed)
        try:
            async with asyncio.timeout(self._timeout):
                hello = await future
        except TimeoutError:
            raise timed_out("said nothing after its start", self._timeout, self.channel) from None
        except (LinkError, EOFError, OSError) as error:
            raise closed_early("went away at its start", error, self.channel) from error
        finally:
            self._answer = None
        if hello.get("protocol") != PROTOCOL or not isinstance(hello.get("facts"), dict):
            raise BridgeError(
                "The agent speaks another protocol.", f"It says {hello.get('protocol')!r:.20}.",
                "See what changes bytes on the way to the target, and start again.",
            )  # fmt: skip
        return hello

    def _tun_link(self, mtu: int) -> Link:
        from netbridge.stack.link.tun import TunLink

        descriptors = self.channel.received_descriptors()
        if len(descriptors) != 1:
            raise TargetLacksError(
                "The agent did not hand its TUN over.", f"{len(descriptors)} descriptors came.",
                "See with `netbridge doctor` whether a sandbox is possible here.",
            )  # fmt: skip
        return TunLink(descriptors[0], mtu=mtu, offload=self.framed.offload)

    def _control(self, message: dict[str, Any]) -> None:
        answer = self._answer
        asked = message["type"] != "error" or message.get("code") not in NO_ANSWER
        asked = asked and (self._number is None or message.get("number") == self._number)
        if answer is not None and not answer.done() and message["type"] in self._expected and asked:
            if message["type"] == "resumed":  # what follows in the same read are packets already
                self.framed.resume(count(message.get("taken")))
            answer.set_result(message)
        elif message["type"] == "traced":
            number = message.get("number")
            trace = self._traces.get(number) if isinstance(number, int) else None
            if trace is not None and not trace.done():
                trace.set_result(message)
        elif message["type"] == "error" and message.get("code") == "tun_lost":
            # Nothing can pass any more. The agent undoes the rest when its stdin ends.
            self.framed.fail(LinkError(f"the network interface over there is gone: {printable(message.get('detail'))}"))
        elif message["type"] == "error" and message.get("code") == "taken_over":
            self.framed.fail(TakenOverError(
                "Another bridge took this target over.", f"It was started on {printable(message.get('detail'))}.",
                "Start this one again, with --take-over if the other runs elsewhere and shall end.",
            ))
        elif message["type"] == "routes_changed":
            if self.on_routes is not None:
                self.on_routes(message)
        elif message["type"] == "error":
            self._reports += 1
            if self._reports <= MAX_REPORTS:
                code, detail = printable(message.get("code")), printable(message.get("detail"))
                logger.warning("the agent reports %s: %s", code, detail)
            if self._reports == MAX_REPORTS:
                logger.warning("the agent reports too much; the rest is left out")
        else:
            logger.debug("the agent says %s, unasked", printable(message["type"]))

    def _end_traces(self, error: Exception) -> None:
        for trace in self._traces.values():
            if not trace.done():
                trace.set_exception(error)

    def _cut(self, error: Exception | None) -> None:
        self._end_traces(LinkError("link_lost: the connection broke"))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or EOFError("the connection broke"))
        if self.on_cut is not None:
            self.on_cut(error)

    def _lost(self, error: Exception | None) -> None:
        self.lost = True
        self._end_traces(LinkError("link_lost: the agent is gone"))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or EOFError("the link was closed"))
        if self.on_lost is not None:
            self.on_lost(error)


async def _reach(channel: Channel, options: AgentOptions) -> memoryview:
    """Send the agent's code and wait for its first line; what came after that. Raises a BridgeError."""
    marker = _Marker(f"NB:{options.nonce}:".encode())
    channel.start(marker)
    channel.write((agent_code(),))
    try:
        async with asyncio.timeout(options.timeout):
            line = await marker.line
    except TimeoutError:
        raise timed_out("did not start", options.timeout, channel) from None
    except (EOFError, OSError) as error:
        raise closed_early("did not start", error, channel) from error
    if line != "agent":
        raise refused_start(line, options.mend)
    return memoryview(bytes(marker.rest))


async def start_agent(channel: Channel, *, options: AgentOptions) -> AgentHandle:
    """Start the agent on a channel that runs `agent_command(options)`. Closes the channel and raises a BridgeError."""
    try:
        rest = await _reach(channel, options)
        agent = AgentHandle(channel, options)
        await agent.greet(rest)
    except BaseException:
        channel.close()
        raise
    return agent


async def launch(transport: Transport, *, options: AgentOptions | None = None) -> AgentHandle:
    """Open a channel on a connected transport and start the agent there."""
    options = options or AgentOptions(mend=transport.mend)
    return await start_agent(await transport.open(agent_command(options)), options=options)


def count(value: object) -> int:
    """A number of bytes in a message from the agent; FrameError for what is none."""
    if not isinstance(value, int):
        raise FrameError("a count of bytes is no number")
    return value
