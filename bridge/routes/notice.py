"""A word from the kernel when this machine's network changes: an address, a route, a rule, an interface.

Only the moment is told, not what changed; whoever hears it looks for himself. A Wi-Fi that is joined changes twenty
things within a second, so the first is told after a moment in which the others may come. Linux tells by netlink, macOS
by `route -n monitor`; where the system gives no such word there is silence, and looking now and then has to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

from .monitor import Ear, monitor

GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h), and the group
RTNLGRP_IPV6_RULE, which is the nineteenth. A VPN may change nothing but a rule that leads into a table of its own."""
MOMENT = 0.1
"""Seconds between the first change and the word about it."""

Source = tuple[int, Callable[[], bool | None]]
"""A descriptor that becomes readable, and what then reads it: whether a change was told, None at its end."""


@contextlib.contextmanager
def notice(changed: Callable[[], None]) -> Iterator[bool]:
    """Call `changed` from the running event loop after each change, until the block ends. Gives whether the system will
    tell.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def tell() -> None:
        nonlocal timer
        timer = None
        changed()

    def heard() -> None:
        nonlocal timer
        told = read()
        if told is None:
            loop.remove_reader(descriptor)
        elif told and timer is None:
            timer = loop.call_later(MOMENT, tell)

    with contextlib.ExitStack() as exits:
        try:
            descriptor, read = _monitor(exits) if sys.platform == "darwin" else _netlink(exits)
            loop.add_reader(descriptor, heard)
        except (AttributeError, OSError):  # another system, no such program, or no descriptor is left
            exits.close()
            yield False
            return
        try:
            yield True
        finally:
            loop.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()


def _netlink(exits: contextlib.ExitStack) -> Source:
    kernel = exits.enter_context(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    )
    kernel.bind((0, GROUPS))
    # Through an epoll of our own: uvloop (0.23) forgets a descriptor at its first error, and ENOBUFS is one.
    watched = exits.enter_context(select.epoll())
    watched.register(kernel, select.EPOLLIN)

    def read() -> bool:
        with contextlib.suppress(OSError):  # ENOBUFS: more than the socket holds was told; something changed for sure
            while kernel.recv(65536):
                pass
        return True

    return watched.fileno(), read


def _monitor(exits: contextlib.ExitStack) -> Source:
    descriptor = exits.enter_context(monitor())
    ear = Ear()

    def read() -> bool | None:
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        return ear.feed(data) if data else None

    return descriptor, read
