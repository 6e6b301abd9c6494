"""What an end is: an exit, an entrance of local listeners, or an entrance of the kernel behind a TUN."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.greeting import Role

from ..entrance import Entrance
from ..errors import UsageError
from ..exit import JOINT, Exit
from ..forward.limits import Limits
from ..forward.policy import Policy
from ..routes.local import local_networks
from .alive import Alive
from .door import EntranceDoor

OWN = 5.0
"""Seconds between looks at this machine's own addresses, where a rule speaks of them."""
EXIT, ENTRANCE = JOINT.gateways[0], JOINT.tun[0].partition("/")[0]
SHARED = ("tcp_flows", "tcp_half_open", "tcp_waiting", "udp_flows", "icmp_flows", "dns_sockets", "back_connections",
          "bytes_in_all", "unread_in_all")  # fmt: skip
"""Limits of a whole process, which its sessions share in equal parts."""


class Side(abc.ABC):
    """One end; sessions run on it."""

    role: Role
    sessions: int | None = None
    """How many at once; None: as many as are asked for."""

    @abc.abstractmethod
    async def run(self, link: CarriedLink) -> None:
        """One session, to the link's end. Raises LinkError with the reason."""


class ExitSide(Side):
    """Every link gets an exit of its own, with its share of what this process may use."""

    role = Role.EXIT

    def __init__(
        self, routes: Sequence[str] | None = None, allow: Sequence[str] = (), deny: Sequence[str] = (), *,
        sessions: int = 1,
    ) -> None:  # fmt: skip
        """Raises UsageError for rules that make no sense."""
        self._routes = routes
        self._rules = tuple(allow), tuple(deny)
        self._limits = share(Limits(), sessions)
        try:
            self._policy()
        except ValueError as error:
            raise UsageError(
                "The exit's rules make no sense.", f"{error}.", "Name networks as in 192.168.1.0/24.",
            ) from error

    def _policy(self) -> Policy:
        policy = Policy(*self._rules, own=JOINT.networks)
        if self._routes is not None:
            policy.confine(self._routes)
        return policy

    async def run(self, link: CarriedLink) -> None:
        policy = self._policy()
        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(link.wait_closed)
            if policy.follows_own_addresses:
                await _tell_own_addresses(policy)
                following = asyncio.ensure_future(_follow_own_addresses(policy))
                ends.callback(following.cancel)
            exit_ = await ends.enter_async_context(Exit(
                Alive(link, EXIT, ENTRANCE), self._routes, policy=policy, limits=self._limits,
            ))  # fmt: skip
            await exit_.wait_closed()


class EntranceSide(Side):
    """Local listeners lead through the one link there is."""

    role = Role.ENTRANCE
    sessions = 1

    def __init__(self, door: EntranceDoor) -> None:
        self._door = door

    async def run(self, link: CarriedLink) -> None:
        lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        entrance = Entrance(Alive(link, ENTRANCE, EXIT))
        entrance.on_lost = lambda error: None if lost.done() else lost.set_result(error)
        try:
            async with entrance:
                self._door.entrance = entrance
                error = await lost
        finally:
            self._door.entrance = None
            await link.wait_closed()
        raise error or LinkError("the link was closed")


def share(limits: Limits, sessions: int) -> Limits:
    """The limits of each of so many sessions."""
    def part(field: dataclasses.Field[int]) -> int:
        whole: int = getattr(limits, field.name)
        return max(int(field.metadata["least"]), whole // sessions)

    return dataclasses.replace(limits, **{it.name: part(it) for it in dataclasses.fields(limits) if it.name in SHARED})


async def _tell_own_addresses(policy: Policy) -> None:
    policy.own_addresses((await local_networks().snapshot()).own)


async def _follow_own_addresses(policy: Policy) -> None:
    while True:
        await asyncio.sleep(OWN)
        await _tell_own_addresses(policy)
