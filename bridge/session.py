"""One bridge: start, capture, survive, stop.

The way of a start. A number is reserved and the control socket opened (so that `netbridge down` can end even a start
that hangs); the transport reaches the target; the agent is started there and says `hello`; the bridge's network is
chosen so that it collides neither with this machine's routes, nor with another bridge, nor with the target's own
subnets; the agent sets the TUN up and says `ready`; stack, forwarders and DNS service stand on its link. From then on
packets flow by callbacks, and this file only waits for one of the ends: `stop`, the end of COMMAND, the loss of the
link, a failure.

A connection that breaks is no end while the grace lasts. The stack's clock stands still, the target is reached anew
(`reconnect.py`), the agent started there hands its connection to the old one, both ends send again what was under way,
and the clock goes on: for every flow nothing happened but a pause.

The way of a stop, in this order and all of it within STOP_SECONDS even when the other end is silent: flows are reset
while their resets can still travel, the agent undoes routes and resolv.conf and says so, the link ends, the transport
closes, the number is given back. Every step that waits is bounded and left behind, cancelled, when its time is over;
what the agent could not be told it notices itself, by the end of its stdin.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

from . import events, packetcapture, runtime
from .addresses import Addresses
from .back.service import WayBack
from .back.sshagent import auth_socket
from .bootstrap import AgentHandle, launch
from .captures import Captures
from .capturing import Capturing
from .control import Control, statuses
from .dns import OwnNames, Upstream
from .dns.own import ZONE
from .engine import Engine
from .errors import BridgeError, BridgeGoneError
from .feed import Feed
from .forward.policy import Policy
from .hostalias import NAME, HostAlias
from .hostroutes import HostRoutes
from .introduction import Stages, connected, dns, loopback, shortcomings, text, texts
from .lifeline import Lifeline
from .losses import lost, reason
from .machine import identity
from .metrics import MetricsServer
from .naming import Naming
from .options import Options
from .plain import harmless
from .rivals import to_replace
from .setup import MTU, setup
from .shortage import refused
from .state import FLOWS, describe
from .transport.base import Transport
from .user import helper_user

T = TypeVar("T")
log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""A stop takes no longer: a person waits for it, and what cannot be said in that time is noticed by the other end."""
AGENT_SECONDS = 3.0
"""Of those, how long the agent may take to undo what it did: dozens of routes take milliseconds, a slow line 300 ms."""
CANCEL_SECONDS = 3.5
"""Of those, how long cancelled work may take to end: a COMMAND gets 3 s between SIGTERM and SIGKILL."""
KILLED = 143
"""Exit status for a COMMAND that a stop ended: what a shell says of a program that SIGTERM ended (128 + 15)."""


class _Ended(Exception):
    """A stop was asked for, or the link was lost, while something else was waited for."""


class Session:
    """One bridge from start to stop; `run` once. `options` must hold a target."""

    def __init__(self, options: Options, on_event: events.EventSink, *, transport: Transport | None = None) -> None:
        """Nothing is started yet. `transport` stands in for the one that the target names. Raises UsageError."""
        self.options = options
        self.state = "starting"
        """starting, running, reconnecting, stopping or stopped."""
        self.name = secrets.token_hex(16)
        """What the target knows this bridge by."""
        self.began = time.monotonic()
        self.feed = Feed(self)
        self._stages = Stages()

        def tell(event: events.Event) -> None:
            event = harmless(event)
            if self.engine is None:
                self._stages.note(event)
            self.feed.event(event)
            on_event(event)

        self._tell = tell
        self.line = Lifeline(
            options, self._tell, (lambda: transport) if transport else (lambda: _transport_for(options, tell)),
            carries_command=self.takes_terminal,
        )
        self.agent: AgentHandle | None = None
        self.engine: Engine | None = None
        self.capturing: Capturing | None = None
        self.naming: Naming | None = None
        self.reservation: runtime.Reservation | None = None
        self.addresses: Addresses | None = None
        self.back = WayBack(*auth_socket(options))
        self.captures = Captures(self._tell, options.target, file=options.pcap, size=options.pcap_size)
        self._ending: asyncio.Future[None] | None = None
        self._loss: BridgeError | None = None
        self._deadline = 0.0
        """When the stop is over, by the event loop's clock."""
        self._running_step: asyncio.Timeout | None = None
        self._patience: asyncio.Future[None] | None = None
        """Done when nothing shall be waited for any more."""

    @property
    def takes_terminal(self) -> bool:
        """A COMMAND or a shell will have the terminal."""
        return bool(self.options.command) or self.options.target == "sandbox"

    def status(self, *, flows: int = FLOWS) -> dict[str, Any]:
        """All there is to know, as JSON; of the flows so many, those used last."""
        return describe(self, flows)

    async def _trace(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """How one destination travels through this bridge."""
        from .trace.run import trace_bridge  # a start need not wait for what few starts will ask

        return await trace_bridge(self, request)

    # --- asked from outside -------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End the bridge in order. May be called at any time and again."""
        if self.state in {"starting", "running", "reconnecting"}:
            self.state = "stopping"
            self._tell(events.Stopping(reason))
            self._end()

    def hurry(self) -> None:
        """End it without waiting for the other end."""
        self.stop("at once")
        self._deadline = asyncio.get_running_loop().time()
        if self._running_step:
            self._running_step.reschedule(self._deadline)
        if self._patience and not self._patience.done():
            self._patience.set_result(None)

    def lost(self, error: BridgeError) -> None:
        """The link ended by itself, or something the bridge cannot live without failed."""
        if self.state in {"starting", "running", "reconnecting"}:
            self.state = "stopping"
            self._loss = error
            self._tell(events.Lost(error.why or error.what))
            self._end()

    def _end(self) -> None:
        if self._ending and not self._ending.done():
            self._ending.set_result(None)
            self._deadline = asyncio.get_running_loop().time() + STOP_SECONDS

    # --- the life -----------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Bridge until an end comes; the exit status of COMMAND, else 0. Raises BridgeError."""
        try:
            return await self._run()
        except (OSError, RuntimeError) as error:
            failure = refused(error)
            if failure is None:
                raise
            raise failure from error

    async def _run(self) -> int:
        self.began = time.monotonic()
        self._ending = asyncio.get_running_loop().create_future()
        self._patience = asyncio.get_running_loop().create_future()
        hosts = HostRoutes(self._tell, lambda: self.engine.destinations() if self.engine else ())
        capturing = self.capturing = Capturing(self.options, self._tell, hosts, on_change=self._network_changed)
        await capturing.look()
        with runtime.own_folder() as folder:
            reservation = self.reservation = folder.reserve(lambda number: Addresses(number).fits(capturing.local))
            metrics = MetricsServer(self, self.options.metrics, self._tell) if self.options.metrics else None
            control = Control(
                reservation, self.status, self.stop, self.back, trace=self._trace, capture=self.captures.serve,
                watch=self.feed.watch,
            )
            try:
                self.captures.prepare()
                await control.start()
                if metrics:
                    await metrics.start()
                return await self._bridge()
            finally:
                self.state = "stopped"
                if metrics:
                    await metrics.close()
                await control.close()
                self.captures.close()
                reservation.release()

    async def _bridge(self) -> int:
        status = 0
        try:
            await self._unless_ended(self._start())
            status = await self._serve()
        except _Ended:
            status = KILLED if self.options.command else 0
        finally:
            await self._shut_down()
        if self._loss:
            raise self._loss
        return status

    async def _serve(self) -> int:
        """Wait for the end; the exit status of COMMAND."""
        self.state = "running"
        self._tell(events.Ready(self.options.target))
        assert self.capturing is not None
        assert self.agent is not None
        loop = asyncio.get_running_loop()
        self.agent.on_routes = self._changed_there
        company = [loop.create_task(it) for it in (
            self.capturing.hosts.watch(self.agent), self.capturing.watch(self.agent), self.line.watch(self.agent),
        )]
        if self.naming and self.agent.ready.get("dns"):
            company.append(loop.create_task(self.naming.watch(self.agent)))
        for task in company:
            task.add_done_callback(_tell_failure)
        try:
            if not self.takes_terminal:
                await self._unless_ended(asyncio.Event().wait())
            self._tell(events.CommandStarted(self.options.command))
            status = await self._unless_ended(self.line.transport.run(self._command()))
            self._tell(events.CommandEnded(status))
            self.stop("the command ended" if self.options.command else "the shell ended")
            return status
        finally:
            self.agent.on_routes = None
            self.capturing.close()
            for task in company:
                task.cancel()

    def _changed_there(self, message: Mapping[str, Any]) -> None:
        """The target's own networks changed, and with them perhaps where its packets come from."""
        assert self.agent is not None
        assert self.capturing is not None
        self.capturing.heard(message)
        if self.engine is not None and packetcapture.by_packets(self.agent.ready):
            self.agent.ready["sources"] = message.get("sources")
            self.engine.accept_sources(packetcapture.sources(self.agent.ready))

    def _command(self) -> tuple[str, ...]:
        """COMMAND, and where it finds the ssh-agent."""
        path = text(self.agent.ready, "ssh_agent") if self.agent else ""
        words = self.options.command
        return ("env", f"SSH_AUTH_SOCK={path}", *words) if words and path else words

    async def _unless_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, or _Ended when an end comes first; `work` is then cancelled or not begun."""
        assert self._ending is not None
        if self._ending.done():
            work.close()
            raise _Ended
        task = asyncio.get_running_loop().create_task(work)
        assert self._patience is not None
        ends: set[asyncio.Future[Any]] = {task, self._ending}
        enough: set[asyncio.Future[Any]] = {task, self._patience}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _Ended
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait(enough, timeout=CANCEL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                task.add_done_callback(_tell_failure)

    # --- start --------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        options, capturing = self.options, self.capturing
        assert capturing is not None
        self._tell(events.Starting("reaching the target", options.target))
        await self.line.transport.connect()
        self._tell(events.Starting("starting the agent", options.target))
        agent = self.agent = await launch(self.line.transport)
        agent.on_lost = self._link_lost
        agent.on_cut = self._cut_off
        machine = identity(helper_user())
        replace = to_replace(
            agent.hello["facts"].get("bridges"), machine=machine["id"], living=await self._living(),
            take_over=options.take_over, target=options.target,
        )
        addresses = self.addresses = self._choose(texts(agent.hello["facts"].get("subnets")))
        upstream = Upstream(
            own_addresses=(*addresses.gateways, *addresses.tun), domains=options.dns_domain, last_domain=ZONE,
        )
        alias = HostAlias(addresses, on=options.host_alias)
        policy = Policy(options.allow, options.deny, aliases=alias.mapping, own=addresses.everything)
        capturing.decide(peers=[self.line.transport.peer_address or ""], own=addresses.networks, alias=alias.routes)
        capturing.tell_own_addresses(policy)
        mtu = options.mtu or MTU
        self.naming = Naming(upstream, lambda: [network.network for network in capturing.captured])
        names = await self.naming.look()
        self.naming.told(names)
        self.naming.on_private = self._tell_names
        self._tell(events.Starting("setting up TUN, routes and names", options.target))
        await agent.setup(setup(
            options, addresses, capturing, names, name=self.name, machine=machine, replace=replace,
            back=self.back.setup(addresses, options.limits.back_connections),
            hand_over=self.line.transport.passes_descriptors,
        ))
        self.engine = Engine(
            agent.link, addresses, policy, upstream, limits=options.limits,
            own=OwnNames({NAME: alias.answers(policy)} if alias.on else {}), mtu=mtu,
            dns=options.dns != "off", on_lost=self._link_lost, tell=self._tell,
            sources=packetcapture.sources(agent.ready), ways=capturing.hosts, captures=self.captures,
        )
        self.captures.interface = text(agent.ready, "tun")
        await self.engine.open()
        assert self.engine.stack is not None
        await self.back.open(self.engine.stack, self._tell_agent, self.engine.back_share)
        seconds = time.monotonic() - self.began
        self._tell(connected(
            options, agent.hello, agent.ready, addresses, mtu=mtu, seconds=seconds, stages=self._stages,
        ))
        self._tell_names()
        for event in shortcomings(options, agent.ready, addresses, self.line.transport.mend):
            self._tell(event)
        capturing.answered(agent.ready)
        for event in loopback(alias, policy):
            self._tell(event)

    def _tell_agent(self, message: dict[str, Any]) -> None:
        """A control message that waits for no answer. Raises LinkError."""
        if self.agent:
            self.agent.framed.send_control(message)

    def _choose(self, subnets: list[str]) -> Addresses:
        """The bridge's addresses, once the target's own subnets are known."""
        assert self.reservation is not None
        assert self.capturing is not None
        taken = [*subnets, *self.capturing.local]
        if not Addresses(self.reservation.number).fits(subnets):
            other = self.reservation.folder.reserve(lambda number: Addresses(number).fits(taken))
            self.reservation.further = other
            return Addresses(other.number)
        return Addresses(self.reservation.number)

    async def _living(self) -> set[str]:
        """The names of this machine's running bridges."""
        assert self.reservation is not None
        found = await asyncio.to_thread(statuses, self.reservation.folder)
        return {str(bridge.get("session")) for bridge in found if bridge["number"] != self.reservation.number}

    # --- a connection that broke --------------------------------------------------------------------------------------

    def _cut_off(self, error: Exception | None) -> None:
        """The connection broke, and the target keeps what it has."""
        if self.state != "running":  # starting, or one try of several
            return
        assert self.engine is not None
        self.state = "reconnecting"
        self.engine.pause()
        self._tell(events.Interrupted(reason(error), self.options.grace))
        self.line.make_anew(self._resumed, self._link_lost)

    def _network_changed(self) -> None:
        """This machine is on another network, or on one more."""
        self.line.network_changed()
        if self.naming:
            self.naming.network_changed()

    def _resumed(self, resumed: events.Resumed) -> None:
        """The connection is there again."""
        if self.state != "reconnecting":
            return
        assert self.engine is not None
        assert self.capturing is not None
        self.state = "running"
        self.engine.go_on()
        self._tell(resumed)
        self.capturing.renew(self.line.transport.peer_address or "")
        if self.naming:
            self.naming.renew()

    def _link_lost(self, error: Exception | None) -> None:
        self.lost(error if isinstance(error, BridgeGoneError) else lost(error, self.options.target))

    def _tell_names(self) -> None:
        assert self.agent is not None
        assert self.naming is not None
        self._tell(dns(self.options, self.agent.ready, self.naming.names.private))

    # --- stop ---------------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        """Take everything down, whatever state it is in."""
        self.state = "stopping"
        deadline = self._deadline = self._deadline or self._in(STOP_SECONDS)
        clean = False
        if await self.line.give_up():
            if not self._loss:
                self._tell(events.Hint(
                    f"the target cannot be told now; it undoes everything by itself within {self.options.grace:.0f} s"
                ))
        self.back.close()
        if self.engine:
            self.engine.reset_flows()
        if self.agent:
            gone = self.agent.lost or not self.agent.framed.carrying  # then nobody can be told
            clean = await self._step("the agent's clean-up", self.agent.stop(), min(deadline, self._in(AGENT_SECONDS)))
            clean = clean and not gone
            self.agent.close()
        if self.engine:
            await self._step("closing the stack", self.engine.close(), deadline)
        await self._step("closing the connection", self.line.close(), deadline)
        if self.engine:
            flows, bytes_up, bytes_down = self.engine.totals()
            self._tell(events.Stopped(
                clean=clean, seconds=round(time.monotonic() - self.began, 3),
                flows=flows, bytes_up=bytes_up, bytes_down=bytes_down,
            ))

    @staticmethod
    def _in(seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def _step(self, what: str, work: Awaitable[object], deadline: float) -> bool:
        """Await one step of the stop, at most until `deadline`; whether it was done."""
        try:
            async with asyncio.timeout_at(min(deadline, self._deadline)) as self._running_step:
                await work
        except TimeoutError:
            log.warning("%s took too long and was left behind", what)
        except Exception as error:
            log.warning("%s failed: %s", what, error)
        else:
            return True
        finally:
            self._running_step = None
        return False


def _tell_failure(task: asyncio.Task[Any]) -> None:
    """Nobody waits for this task any more; what went wrong in it is at least told."""
    if not task.cancelled() and (error := task.exception()):
        log.warning("in the background: %s: %s", type(error).__name__, error)


def _transport_for(options: Options, tell: events.EventSink) -> Transport:
    from .transport import make_transport  # asyncssh takes a third of a second to import
    from .transport.terminal import has_terminal

    return make_transport(
        options.target, ssh=None if options.ssh == "auto" else options.ssh,
        log=lambda line: log.info("%s: %s", options.target, line), interactive=has_terminal(),
        progress=lambda stage: tell(events.Starting(stage, options.target)),
    )
