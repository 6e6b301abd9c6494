"""The system's name service: what getaddrinfo and getnameinfo know beyond nameservers (mDNS, LLMNR, VPN filters).

Both block, for half a minute when a nameserver is dead, so they run in threads of their own: few of them, and when
all are busy the question is not asked this way at all. They are daemon threads, so one that hangs delays nobody's
exit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable

from .answer import Answer
from .message import PTR, Query
from .synthesis import Address, answer_addresses, answer_names, answer_no_name, host_name, reachable, reverse_address

log = logging.getLogger(__name__)

THREADS = 8
"""Questions under way at once; each may hang for as long as the C library's own time limits say."""

_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class NameService:
    """getaddrinfo and getnameinfo, asked from an event loop."""

    def __init__(self, threads: int = THREADS) -> None:
        self._free = threads

    @property
    def free(self) -> int:
        """How many more questions could be looked up now."""
        return self._free

    def start(self, query: Query, done: Callable[[Answer | None], None]) -> None:
        """Look up A, AAAA or PTR; `done` is called later from the event loop, with None for "cannot say"."""
        loop = asyncio.get_running_loop()
        if self._free <= 0:
            loop.call_soon(done, None)
            return
        thread = threading.Thread(target=self._run, args=(query, loop, done), name="netbridge-nss", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            loop.call_soon(done, None)
            return
        self._free -= 1

    async def ask(self, query: Query) -> Answer | None:
        """The same, waited for."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.start(query, lambda answer: None if future.done() else future.set_result(answer))
        return await future

    def look_up(self, query: Query) -> Answer | None:
        """One blocking look-up, in a thread; None for "cannot say"."""
        return _look_up(query)

    def _run(self, query: Query, loop: asyncio.AbstractEventLoop, done: Callable[[Answer | None], None]) -> None:
        try:
            answer = self.look_up(query)
        except Exception:
            log.exception("the name service failed at %r", query)
            answer = None
        try:
            loop.call_soon_threadsafe(self._finish, done, answer)
        except RuntimeError:  # the loop was closed while the C library hung
            return

    def _finish(self, done: Callable[[Answer | None], None], answer: Answer | None) -> None:
        self._free += 1
        done(answer)


def _look_up(query: Query) -> Answer | None:
    if query.rtype == PTR:
        address = reverse_address(query)
        return _names(query, address) if address else None
    name = host_name(query)
    if name is None:
        return None
    try:
        # Both families at once: a name with an IPv4 address alone must give NODATA for AAAA, and NSS modules
        # asked for a family they lack say "no such name".
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        return answer_no_name(query) if error.errno in _NO_SUCH_NAME else None
    except (OSError, UnicodeError):
        return None
    addresses: list[Address] = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    usable = [address for address in dict.fromkeys(addresses) if reachable(address)]
    return answer_addresses(query, usable) if usable else answer_no_name(query)


def _names(query: Query, address: Address) -> Answer | None:
    try:
        name, _ = socket.getnameinfo((str(address), 0), socket.NI_NAMEREQD)
    except socket.gaierror as error:
        return answer_no_name(query) if error.errno in _NO_SUCH_NAME else None
    except (OSError, UnicodeError):
        return None
    return answer_names(query, [name])
