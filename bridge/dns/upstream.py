"""The local machine's resolver, asked the way the local machine asks it.

The order is that of the C library: names of the hosts file first; then the nameservers of resolv.conf, one after the
other, the first answer counts, "no such name" and "no such record" included. SERVFAIL, REFUSED, NOTIMP and FORMERR
send the question on to the next. Where that leads nowhere the system's name service (getaddrinfo) is asked for A,
AAAA and PTR, as it knows more ways than nameservers: mDNS, LLMNR, packet filters of a VPN. It is asked too for names
that nameservers deny and that may come from such a source: those without a dot, those under .local (RFC 6762), and all
names where the system names another source than nameservers (:mod:`.nsswitch`).

Time: each nameserver gets `attempt_timeout` before the next is asked as well, and is listened to until the whole
question's `total_timeout` is over. That stays below the five seconds after which resolvers of the C library repeat
themselves, so that a client hears SERVFAIL from us, and does not merely wait.

A nameserver that missed `DEAF` questions in a row is asked last for a while; one missed datagram must not do that, or
a question for the VPN's nameserver would go to a public one which denies the name.

The bridge's own addresses are never asked (a loop), even where resolv.conf names them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import time
from collections.abc import Callable, Iterable

from .answer import Answer, refuses_edns
from .exchange import Sockets, UdpExchange, UpstreamCounters, ask_tcp
from .hosts import PATH as HOSTS
from .hosts import Hosts
from .message import FORMERR, NOTIMP, NXDOMAIN, PTR, REFUSED, SERVFAIL, MessageError, Query, name_text
from .nss import NameService
from .nsswitch import PATH as NSSWITCH
from .nsswitch import knows_more
from .resolvconf import ResolverConfig, parse_resolv_conf, plain_address
from .synthesis import answer_addresses, answer_names, reverse_address, speaks_of_hosts
from .watched import WatchedFile

log = logging.getLogger(__name__)

RESOLV_CONF = "/etc/resolv.conf"
ATTEMPT_TIMEOUT = 2.0
TOTAL_TIMEOUT = 4.5
DEAF = 3
"""Unanswered questions in a row after which a nameserver is asked last."""
DEAF_SECONDS = 15.0
PLAIN_SECONDS = 300.0
"""How long a nameserver that did not know EDNS is asked without."""

MAX_SOCKETS = 256
"""Sockets open at a time unless said otherwise; the bridge says what its descriptors allow."""

TURNS = 3
"""Times each nameserver is asked; the total timeout ends it sooner."""
SYSTEM = "system"
"""The name service as the source of an answer."""

Settled = tuple[Answer, str]
"""An answer and who gave it."""

_RESOLVED = ("127.0.0.53", "127.0.0.54")
"""systemd-resolved's stub, which has asked every source it knows already."""

_GO_ON = {FORMERR, SERVFAIL, NOTIMP, REFUSED}


class UpstreamError(OSError):
    """Nobody could be asked, or nobody answered in time."""


class _Server:
    """What is remembered of a nameserver."""

    __slots__ = ("deaf_until", "missed", "plain_until")

    def __init__(self) -> None:
        self.missed = 0
        self.deaf_until = 0.0
        self.plain_until = 0.0


class Upstream:
    """The client of the local machine's resolver."""

    def __init__(
        self, *, own_addresses: Iterable[str] = (), resolv_conf: str = RESOLV_CONF, hosts: str = HOSTS,
        nsswitch: str = NSSWITCH, name_service: NameService | None = None, port: int = 53,
        attempt_timeout: float = ATTEMPT_TIMEOUT, total_timeout: float = TOTAL_TIMEOUT, max_sockets: int = MAX_SOCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = UpstreamCounters()
        self.sockets = Sockets(max_sockets)
        """What questions have open; `most` may be changed at any time."""
        self._own = frozenset(address for each in own_addresses if (address := plain_address(each.partition("/")[0])))
        self._resolv_conf = WatchedFile(resolv_conf, parse_resolv_conf)
        self._hosts = WatchedFile(hosts, Hosts)
        self._nsswitch = WatchedFile(nsswitch, knows_more)
        self._name_service = name_service or NameService()
        self._port = port
        self._attempt_timeout = attempt_timeout
        self._total_timeout = total_timeout
        self._clock = clock
        self._servers: dict[str, _Server] = {}
        self._warned: set[str] = set()

    @property
    def config(self) -> ResolverConfig:
        """The local machine's nameservers and search domains as they were at the last look."""
        return self._resolv_conf.value

    @property
    def nameservers(self) -> list[str]:
        """Whom a question would be asked now, in order, the bridge's own addresses left out."""
        usable = []
        for address in self.config.nameservers:
            if address not in self._own:
                usable.append(address)
            elif address not in self._warned:
                self._warned.add(address)
                log.warning("resolv.conf names %s, the bridge's own DNS service; it is not asked (a loop)", address)
        now = self._clock()
        return sorted(usable, key=lambda address: self._server(address).deaf_until > now)

    def generation(self) -> int:
        """A number that grows when one of the resolver's files changed; looks at them each time, as the C library does
        (some microseconds), so that the very next question is asked the new way.
        """
        if self._resolv_conf.refresh():
            self._servers.clear()
        self._hosts.refresh()
        self._nsswitch.refresh()
        return self._resolv_conf.generation + self._hosts.generation + self._nsswitch.generation

    @property
    def name_service_knows_more(self) -> bool:
        """Whether the system's name service may know any name that nameservers deny."""
        # macOS has resolvers for single domains that stand in no resolv.conf.
        return self._nsswitch.value or sys.platform == "darwin"

    async def ask(self, query: Query) -> Settled:
        """The local machine's answer, and who gave it (a nameserver's address, "hosts" or "system").

        UpstreamError when there is none within `total_timeout` seconds.
        """
        self.generation()
        answer = self.from_hosts(query)
        if answer is not None:
            return answer, "hosts"
        lookup = _Lookup(self, query)
        try:
            async with asyncio.timeout(self._total_timeout):
                return await lookup.run()
        except TimeoutError:
            if lookup.second_best is not None:
                return lookup.second_best
            raise UpstreamError(f"no answer within {self._total_timeout:g} s") from None
        finally:
            lookup.close()

    def from_hosts(self, query: Query) -> Answer | None:
        """The hosts file's answer, if it knows the name or address."""
        hosts = self._hosts.value
        if not (hosts.addresses and speaks_of_hosts(query)):
            return None
        if query.rtype == PTR:
            address = reverse_address(query)
            names = hosts.names.get(address) if address else None
            if not names:
                return None
            self.counters.hosts += 1
            return answer_names(query, names)
        addresses = hosts.addresses.get(name_text(query.name))
        if not addresses:
            return None
        self.counters.hosts += 1
        return answer_addresses(query, addresses)

    def _server(self, address: str) -> _Server:
        return self._servers.setdefault(address, _Server())

    def _heard(self, address: str) -> None:
        server = self._server(address)
        server.missed = 0
        server.deaf_until = 0.0

    def _missed(self, address: str) -> None:
        server = self._server(address)
        server.missed += 1
        if server.missed >= DEAF:
            server.deaf_until = self._clock() + DEAF_SECONDS


class _Lookup:
    """One question on its way through nameservers and the name service."""

    def __init__(self, upstream: Upstream, query: Query) -> None:
        self.second_best: Settled | None = None
        """An answer to fall back on: a refusal, or one that was cut off and could not be had over TCP."""
        self._upstream = upstream
        self._counters = upstream.counters
        self._query = query
        self._exchanges: list[UdpExchange] = []
        self._system_asked = False
        self._outcomes: asyncio.Queue[tuple[UdpExchange | None, Answer | OSError | None]] = asyncio.Queue()
        """Who (None: the name service) said what, in the order in which it came."""
        self._open = 0
        """Outcomes still to come or to be looked at."""

    async def run(self) -> Settled:
        """Ask until somebody answers; UpstreamError when nobody is left to ask."""
        upstream = self._upstream
        servers = upstream.nameservers
        patience = min(upstream._attempt_timeout, upstream._total_timeout / max(len(servers), 1))
        edns = bool(self._query.edns_size)
        for turn in range(TURNS):
            silent = 0
            for address in servers:
                # The later turns do without EDNS, which some home routers drop without a word.
                knows_edns = upstream._server(address).plain_until <= upstream._clock()
                exchange = self._send(address, edns=edns and knows_edns and (turn < 1 or self._query.dnssec))
                settled = await self._wait(patience, exchange)
                if settled is not None:
                    return settled
                silent += exchange is not None and not exchange.finished
            if turn == 0:
                self._ask_system()
            if not silent:  # everybody refused; asking again at once would change nothing
                break
        while self._open:
            settled = await self._judge(*await self._outcomes.get())
            if settled is not None:
                return settled
        if self.second_best is not None:
            return self.second_best
        raise UpstreamError("no nameserver could answer" if servers else "no nameserver is configured")

    def close(self) -> None:
        """Let go of all sockets."""
        for exchange in self._exchanges:
            exchange.close()

    def _send(self, address: str, *, edns: bool) -> UdpExchange | None:
        try:
            exchange = UdpExchange(
                address, self._upstream._port, self._query, self._counters, self._upstream.sockets,
                lambda which, outcome: self._outcomes.put_nowait((which, outcome)), edns=edns,
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._counters.no_socket += 1
            else:
                self._counters.refused += 1
            return None
        self._exchanges.append(exchange)
        self._open += 1
        return exchange

    def _ask_system(self) -> None:
        """Ask the name service beside the nameservers that were silent so far."""
        if speaks_of_hosts(self._query):
            self._count_name_service()
            self._open += 1
            self._upstream._name_service.start(self._query, lambda answer: self._outcomes.put_nowait((None, answer)))

    def _count_name_service(self) -> None:
        if self._upstream._name_service.free:
            self._counters.name_service += 1
        else:
            self._counters.name_service_busy += 1

    async def _wait(self, seconds: float, exchange: UdpExchange | None) -> Settled | None:
        """Wait until somebody answers, or `exchange` failed, or its time is up; None: ask the next."""
        if exchange is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                while not exchange.finished or not self._outcomes.empty():
                    settled = await self._judge(*await self._outcomes.get())
                    if settled is not None:
                        return settled
        except TimeoutError:
            self._counters.timeouts += 1
            self._upstream._missed(exchange.nameserver)
        return None

    async def _judge(self, exchange: UdpExchange | None, outcome: Answer | OSError | None) -> Settled | None:
        """Whether an outcome settles the question."""
        self._open -= 1
        if outcome is None:
            return None
        if isinstance(outcome, OSError):
            self._counters.refused += 1
            return None
        if exchange is None:
            return outcome, SYSTEM
        address = exchange.nameserver
        self._upstream._heard(address)
        if exchange.edns and refuses_edns(outcome):
            self._counters.without_edns += 1
            self._upstream._server(address).plain_until = self._upstream._clock() + PLAIN_SECONDS
            return await self._wait(self._upstream._attempt_timeout, self._send(address, edns=False))
        if outcome.truncated:
            self.second_best = outcome, address
            try:
                outcome = await ask_tcp(
                    address, self._upstream._port, self._query, self._counters, self._upstream.sockets,
                    edns=exchange.edns,
                )
            except (OSError, EOFError, MessageError):
                return None
        if outcome.rcode in _GO_ON:
            self._counters.failures += 1
            self.second_best = self.second_best or (outcome, address)
            return None
        return await self._recheck(outcome, address)

    async def _recheck(self, answer: Answer, source: str) -> Settled:
        """Ask the name service about a name that nameservers deny but another source may know."""
        if answer.rcode != NXDOMAIN or self._query.rtype == PTR or not speaks_of_hosts(self._query):
            return answer, source
        name = name_text(self._query.name)
        likely = "." not in name or name.endswith(".local")
        if not likely and (source in _RESOLVED or not self._upstream.name_service_knows_more):
            return answer, source
        self.second_best = answer, source  # should the name service take too long
        self._count_name_service()
        found = await self._upstream._name_service.ask(self._query)
        return (answer, source) if found is None or found.rcode == NXDOMAIN else (found, SYSTEM)
