"""The DNS stub: takes the codespace's questions on a loopback address and relays them, whole and unread but for the
name.

Who is asked. Mode `all`: the service on the stack, nobody else. Mode `auto`: names under a private suffix go to the
service first and to the codespace's own nameservers after that; all others the other way round. The second is asked
what the first cannot resolve: NXDOMAIN, SERVFAIL, REFUSED and the like, no answer in 2 s. An empty NOERROR is an
answer and stays one, because a resolver that asked for AAAA would take NXDOMAIN for the whole name (RFC 2308 section
2). Of two failures NXDOMAIN is told rather than SERVFAIL; but that a private name does not exist only the service can
say, so while it is silent (the link is cut, the machine sleeps) it is asked once more and waited for, 8 s in all, and
then the answer is SERVFAIL, which nobody remembers. When the own nameservers answered nothing at all while one question
waited for them, they are asked last for a while.

No circle is endless. A nameserver (the codespace's 127.0.0.53, which itself asks what resolv.conf says; this machine's,
which asks the codespace) may pass our question on to us. It comes back in the spelling it went out with, and is then
asked of those only who were not asked yet, which is a list that becomes shorter. Where the spelling is lost on the way,
it joins the question that it is, and asks nobody.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import asking, dnsmsg
from .asking import Answer, Exchange, Stages
from .listening import Door
from .loop import Loop

FIRST_WAIT = 2.0
"""Seconds for the own nameservers, and for the service where they are left. glibc asks elsewhere after 5 s."""
LAST_WAIT = 8.0
"""Seconds for the service when nobody is left; it has its own time limit and says SERVFAIL."""
CIRCLE_WAIT = 1.0
"""Seconds for own nameservers that were seen to ask us. One that puts equal questions together, as dnsmasq does, never
answers what it asks us itself."""
CIRCLE_LASTS = 600.0
"""Seconds for which that is remembered."""
REST = 30.0
"""Seconds during which own nameservers that did not answer are asked last."""
IN_FLIGHT = 256
"""Questions at a time, of one to three sockets each. Beyond it the oldest is given up: it is the likeliest to fail."""
ADDRESSES = ["127.83.0.%d" % number for number in range(1, 17)]


class StubError(Exception):
    """The stub cannot listen anywhere."""


class Stub:
    """Listens on the first free loopback address. `service` and `own` are nameserver addresses, port 53."""

    def __init__(
        self, loop: Loop, mode: str, service: Sequence[str], own: Sequence[str], suffixes: Sequence[str]
    ) -> None:
        self.loop = loop
        self.mark = 0
        """SO_MARK of what is asked of nameservers."""
        self._service = [str(ipaddress.ip_address(server)) for server in service]
        self._mode = mode
        self._own: List[str] = []
        self._own_heard = 0.0
        self._own_rests_until = 0.0
        self._circle_until = 0.0
        self.change_suffixes(suffixes)
        self.change_own(own)
        self._running: Dict[Any, Exchange] = {}
        self._sent: Dict[bytes, Exchange] = {}
        """By the question as it went out."""
        self._doors = [self._first_door()]
        self.address = self._doors[0].address

    def _first_door(self) -> Door:
        reason = ""
        for address in ADDRESSES:
            try:
                return Door(self.loop, address, self._ask)
            except OSError as error:
                reason = str(error)
        raise StubError("port 53 is free on none of %s to %s: %s" % (ADDRESSES[0], ADDRESSES[-1], reason))

    def close(self) -> None:
        """Stop; questions on their way get no answer."""
        for exchange in list(self._running.values()):
            exchange.cancel()
        for door in self._doors:
            door.close()

    def listen(self, address: str, *, foreign: bool = False) -> Callable[[], None]:
        """Be asked on another address too; what ends it. OSError when port 53 is not to be had there."""
        door = Door(self.loop, address, self._ask, foreign=foreign)
        self._doors.append(door)

        def end() -> None:
            if door in self._doors:
                self._doors.remove(door)
                door.close()

        return end

    def change_own(self, own: Sequence[str]) -> None:
        """The codespace has other nameservers now."""
        if self._mode != "all":
            self._own = asking.usable(list(own), self._service + ADDRESSES)
            self._own_rests_until = self._circle_until = 0.0

    def change_suffixes(self, suffixes: Sequence[str]) -> None:
        """Other names are private from now on."""
        self._suffixes = frozenset(suffix.strip(".").lower() for suffix in suffixes)

    # What exchanges tell.

    def patience(self, servers: Sequence[str], *, last: bool) -> float:
        """How long a stage may take."""
        if servers != self._own:
            return LAST_WAIT if last else FIRST_WAIT
        return CIRCLE_WAIT if time.monotonic() < self._circle_until else FIRST_WAIT

    def forget(self, exchange: Exchange) -> None:
        """The exchange is over."""
        for known, key in ((self._running, exchange.key), (self._sent, exchange.section)):
            if known.get(key) is exchange:
                del known[key]

    def silent(self, servers: Sequence[str], since: float) -> None:
        """A whole stage did not answer in its time. One name may be slow; nothing since then means nobody is there."""
        if servers == self._own and self._own_heard < since:
            self._own_rests_until = time.monotonic() + REST

    def heard(self, server: str) -> None:
        """A server answered."""
        if server in self._own:
            self._own_heard = time.monotonic()
            self._own_rests_until = 0.0

    # What clients ask.

    def _ask(self, query: bytes, client: Any, stream: bool, answer: Answer) -> Optional[Callable[[], None]]:
        message = dnsmsg.parse(query)
        if message is None or message.response or message.question is None:
            return None
        question = message.question
        ours = self._sent.get(dnsmsg.section(query, question))
        if ours is not None:
            if ours.servers == self._own:
                self._circle_until = time.monotonic() + CIRCLE_LASTS
            key: Any = (ours.section, stream)
            stages = ours.untried
            if not stages:
                answer(dnsmsg.failure(query, dnsmsg.SERVFAIL))
                return _nothing
        else:
            key = (query[2 : dnsmsg.HEADER_LEN], question.section, query[dnsmsg.HEADER_LEN + len(question.section) :])
            key = (*key, stream)
            stages = self._stages(question)
        exchange = self._running.get(key)
        if exchange is not None:
            return exchange.join(client, query, answer) or _nothing
        if len(self._running) >= IN_FLIGHT:
            next(iter(self._running.values())).finish()
        exchange = Exchange(
            self, key, query, question, stages, time.monotonic(), stream=stream,
            private=stages[0] == self._service and self._is_private(question.name),
        )  # fmt: skip
        leave = exchange.join(client, query, answer)
        self._running[key] = exchange
        if exchange.section != dnsmsg.section(query, question):  # names without a letter have one spelling
            self._sent[exchange.section] = exchange
        exchange.start()
        return leave

    def _stages(self, question: dnsmsg.Question) -> Stages:
        service, own = self._service, self._own
        if not own:
            return [service]
        if self._is_private(question.name) or time.monotonic() < self._own_rests_until:
            return [service, own]
        return [own, service]

    def _is_private(self, name: str) -> bool:
        """Whether it is below a private suffix. There may be hundreds, so the name is shortened, label by label."""
        while name and name not in self._suffixes:
            name = name.partition(".")[2]
        return bool(name)


def _nothing() -> None:
    """There is nothing to take back."""
