"""Awaiting an echo reply."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
from time import perf_counter  # finer than some event loops' clocks

from ..packet import IpPacket
from .endpoint import Icmp
from .wire import Problem

PROBLEM_ERRNO = {
    Problem.NET_UNREACHABLE: errno.ENETUNREACH,
    Problem.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Problem.PROTOCOL_UNREACHABLE: errno.ENOPROTOOPT,
    Problem.PORT_UNREACHABLE: errno.ECONNREFUSED,
    Problem.PROHIBITED: errno.EHOSTUNREACH,
    Problem.TOO_BIG: errno.EMSGSIZE,
    Problem.TIME_EXCEEDED: errno.EHOSTUNREACH,
    Problem.REASSEMBLY_TIME_EXCEEDED: errno.EHOSTUNREACH,
}
"""What Linux makes of ICMP errors for its sockets."""


def problem_error(problem: Problem) -> OSError:
    """The exception that a socket would raise for an ICMP error; port unreachable is a ConnectionRefusedError."""
    number = PROBLEM_ERRNO[problem]
    return OSError(number, os.strerror(number))


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
            answered.set_exception(problem_error(problem))

    key = icmp.send_ping(source, destination, secrets.token_bytes(size), done, ttl=ttl)
    try:
        async with asyncio.timeout(timeout):
            return await answered
    finally:
        icmp.forget_ping(key)
