"""Awaiting an echo reply."""

from __future__ import annotations

import asyncio
import secrets
from time import perf_counter  # finer than some event loops' clocks

from ..packet import IpPacket
from .endpoint import Icmp
from .wire import Problem


async def ping(
    icmp: Icmp, source: bytes, destination: bytes, *, timeout: float = 1.0, size: int = 56, ttl: int = 64,
) -> float:
    """Send one echo request between packed addresses and return the seconds until its reply.

    Raises TimeoutError when none comes in `timeout` seconds and OSError when an error comes instead.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[float] = loop.create_future()
    started = perf_counter()

    def done(_: IpPacket | None, problem: Problem | None) -> None:
        if answered.done():
            return
        if problem is None:
            answered.set_result(perf_counter() - started)
        else:
            answered.set_exception(problem.error())

    key = icmp.send_ping(source, destination, secrets.token_bytes(size), done, ttl=ttl)
    try:
        async with asyncio.timeout(timeout):
            return await answered
    finally:
        icmp.forget_ping(key)
