"""Whether the way to the target is open again: a bare TCP connect every moment, while the connection is down.

A whole try (ssh, login, agent) that meets a dead path hangs in its connect, for up to half a minute, and the waits
between tries grow as long. A knock costs one packet, so the return of the path is noticed within two seconds. Only the
change from closed to open is told: a server that is there and refuses the login is no reason to try more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

EVERY = 0.5
"""Seconds between two knocks, where they are refused at once."""
PATIENCE = 1.0
"""Seconds until a knock counts as unheard; a satellite's round trip is 0.7 s."""


async def knock(address: str, port: int, opened: Callable[[], None]) -> None:
    """Knock until cancelled; `opened` hears of each time the port answers after it did not."""
    before = True
    while True:
        now = await _answers(address, port)
        if now and not before:
            opened()
        before = now
        await asyncio.sleep(EVERY)


async def _answers(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError):  # TimeoutError is one
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(probe, (address, port))
            return True
    return False
