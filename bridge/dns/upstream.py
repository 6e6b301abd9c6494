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

A question below a domain that has nameservers of its own (macOS; :mod:`.systemnames`) is put to those and to no others.

The bridge's own addresses are never asked (a loop), even where resolv.conf names them.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable

from .answer import Answer
from .exchange import Sockets, UpstreamCounters
from .hosts import PATH as HOSTS
from .hosts import Hosts
from .linkdomains import UPLINKS
from .lookup import Lookup, Settled
from .message import PTR, Query, name_text
from .nameserver import Nameserver, UpstreamError
from .nss import NameService
from .nsswitch import PATH as NSSWITCH
from .nsswitch import knows_more
from .resolvconf import ResolverConfig, parse_resolv_conf, plain_address
from .reverse import reverse_suffixes
from .synthesis import answer_addresses, answer_names, reverse_address, speaks_of_hosts
from .systemnames import MAX_SUFFIXES, Names, SystemNames, clean, merged
from .watched import WatchedFile

log = logging.getLogger(__name__)

RESOLV_CONF = "/etc/resolv.conf"
ATTEMPT_TIMEOUT = 2.0
TOTAL_TIMEOUT = 4.5

MAX_SOCKETS = 256
"""Sockets open at a time unless said otherwise; the bridge says what its descriptors allow."""


class Upstream:
    """The client of the local machine's resolver."""

    def __init__(
        self, *, own_addresses: Iterable[str] = (), resolv_conf: str = RESOLV_CONF, hosts: str = HOSTS,
        nsswitch: str = NSSWITCH, uplinks: str = UPLINKS, name_service: NameService | None = None, port: int = 53,
        attempt_timeout: float = ATTEMPT_TIMEOUT, total_timeout: float = TOTAL_TIMEOUT, max_sockets: int = MAX_SOCKETS,
        domains: Iterable[str] = (), last_domain: str = "", clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`domains`: suffixes the user wants to be asked here; `last_domain`: the bridge's own, asked here as well."""
        self.counters = UpstreamCounters()
        self.sockets = Sockets(max_sockets)
        """What questions have open; `most` may be changed at any time."""
        self._own = frozenset(address for each in own_addresses if (address := plain_address(each.partition("/")[0])))
        self._resolv_conf = WatchedFile(resolv_conf, parse_resolv_conf)
        self._hosts = WatchedFile(hosts, Hosts)
        self._nsswitch = WatchedFile(nsswitch, knows_more)
        self._uplinks = WatchedFile(uplinks, parse_resolv_conf)
        self.name_service = name_service or NameService()
        self.attempt_timeout = attempt_timeout
        self.total_timeout = total_timeout
        self.clock = clock
        self._port = port
        self._domains = tuple(domains)
        self._last_domain = (last_domain,) if last_domain else ()
        self._system = SystemNames()
        self._captured: tuple[str, ...] = ()
        self._changes = 0
        self._servers: dict[tuple[str, int], Nameserver] = {}
        self._warned: set[str] = set()

    @property
    def config(self) -> ResolverConfig:
        """The local machine's nameservers and search domains as they were at the last look."""
        return self._resolv_conf.value

    @property
    def names(self) -> Names:
        """The private suffixes and the search list of this machine, as they were at the last look."""
        system = self._system
        search = [*filter(None, map(clean, self.config.search))]
        first = merged(self._domains, search, system.search, system.routing, most=MAX_SUFFIXES - 1)
        room = MAX_SUFFIXES - len(first) - len(self._last_domain)
        reverse = reverse_suffixes(self._captured, room)
        return Names(merged(first, reverse, self._last_domain, most=MAX_SUFFIXES), merged(search, system.search))

    def learn(self, system: SystemNames | None = None, captured: Iterable[str] | None = None) -> None:
        """What the system says of names now, and which networks (CIDRs) are captured; None: as before."""
        if captured is not None:
            self._captured = tuple(captured)
        if system is not None and system != self._system:
            self._system = system
            self.network_changed()

    def network_changed(self) -> None:
        """This machine is elsewhere now: what is remembered of nameservers, and all answers, may be wrong."""
        self._servers.clear()
        self._changes += 1

    @property
    def nameservers(self) -> list[str]:
        """Whom a question would be asked now, in order, the bridge's own addresses left out."""
        return [server.address for server in self._usable(self.config.nameservers, self._port)]

    def whom_to_ask(self, query: Query) -> tuple[list[Nameserver], float]:
        """The nameservers for a question, in order, and the seconds each of them gets."""
        own = self._system.resolvers_for(query.name)
        if not own:
            return self._usable(self.config.nameservers, self._port), self.attempt_timeout
        servers = [server for each in own for server in self._usable(each.nameservers, each.port)]
        return servers, min(own[0].timeout or self.attempt_timeout, self.total_timeout)

    def _usable(self, addresses: Iterable[str], port: int) -> list[Nameserver]:
        usable = []
        for address in addresses:
            if address not in self._own:
                usable.append(self._server(address, port))
            elif address not in self._warned:
                self._warned.add(address)
                log.warning("the resolver names %s, the bridge's own DNS service; it is not asked (a loop)", address)
        now = self.clock()
        return sorted(usable, key=lambda server: server.deaf_until > now)

    def generation(self) -> int:
        """A number that grows when the local resolver changed: one of its files, which are looked at each time, as the
        C library does (some microseconds), so that the very next question is asked the new way; or what was learnt.
        """
        if self._resolv_conf.refresh():
            self._servers.clear()
        if self._uplinks.refresh():  # systemd-resolved's links: behind an unchanged 127.0.0.53 others are asked now
            self._changes += 1
        self._hosts.refresh()
        self._nsswitch.refresh()
        return self._resolv_conf.generation + self._hosts.generation + self._nsswitch.generation + self._changes

    @property
    def name_service_knows_more(self) -> bool:
        """Whether the system's name service may know any name that nameservers deny."""
        # macOS has resolvers for single domains that stand in no resolv.conf.
        return self._nsswitch.value or sys.platform == "darwin"

    async def ask(self, query: Query) -> Settled:
        """The local machine's answer, and who gave it (a nameserver's address, "hosts" or "system").

        UpstreamError when there is none within `total_timeout` seconds. The files count as :meth:`generation` saw them,
        which is to be called first.
        """
        answer = self.from_hosts(query)
        if answer is not None:
            return answer, "hosts"
        lookup = Lookup(self, query)
        try:
            return await lookup.run()
        except TimeoutError:
            if lookup.second_best is not None:
                return lookup.second_best
            raise UpstreamError(f"no answer within {self.total_timeout:g} s") from None
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

    def _server(self, address: str, port: int) -> Nameserver:
        known = self._servers.get((address, port))
        if known is None:
            known = self._servers[address, port] = Nameserver(address, port)
        return known
