"""A word from the kernel when this machine's network changes: an address, a route, a rule, an interface.

Only the moment is told, not what changed; whoever hears it looks for himself. A Wi-Fi that is joined changes twenty
things within a second, so the first is told after a moment in which the others may come. Where the system gives no
such word there is silence, and looking now and then has to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Iterator

GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h), and the group
RTNLGRP_IPV6_RULE, which is the nineteenth. A VPN may change nothing but a rule that leads into a table of its own."""
MOMENT = 0.1
"""Seconds between the first change and the word about it."""


@contextlib.contextmanager
def notice(changed: Callable[[], None]) -> Iterator[None]:
    """Call `changed` from the running event loop after each change, until the block ends."""
    loop = asyncio.get_running_loop()
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        kernel.bind((0, GROUPS))
        # Through an epoll of our own: uvloop (0.23) forgets a descriptor at its first error, and ENOBUFS is one.
        watched = select.epoll()
        watched.register(kernel, select.EPOLLIN)
    except (AttributeError, OSError):  # not Linux, or no descriptor is left
        yield
        return
    timer: asyncio.TimerHandle | None = None

    def tell() -> None:
        nonlocal timer
        timer = None
        changed()

    def heard() -> None:
        nonlocal timer
        with contextlib.suppress(OSError):  # ENOBUFS: more than the socket holds was told; something changed for sure
            while kernel.recv(65536):
                pass
        if timer is None:
            timer = loop.call_later(MOMENT, tell)

    loop.add_reader(watched.fileno(), heard)
    try:
        yield
    finally:
        loop.remove_reader(watched.fileno())
        watched.close()
        kernel.close()
        if timer is not None:
            timer.cancel()
