"""Connecting to a name: its addresses in turn, as asyncio does without happy eyeballs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from .face import Face

T = TypeVar("T")


async def by_name(stack: Face, host: str, attempt: Callable[[str], Awaitable[T]]) -> T:
    """What `attempt` makes of the first address of `host` that it works for; the last one's error when it is none.

    `host` is a name, which `stack.resolve` is asked for, or an address. Raises OSError, socket.gaierror being one.
    """
    problem = OSError(f"{host} has no address")
    for address in await stack.resolve(host):
        try:
            return await attempt(address)
        except OSError as error:
            problem = error
    raise problem
