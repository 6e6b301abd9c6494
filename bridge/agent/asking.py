"""One question, everybody who asks it, and the nameservers that are tried for it, stage by stage.

Clients that ask the same at the same time share one exchange: each gets the answer with its own id and its own spelling
of the name. The question goes out in a spelling of its own, capitals at random, so that one that a nameserver passes on
to us is recognized as ours (see :mod:`.stub`). An answer may come in any spelling, as some nameservers keep none.
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple

from . import dnsmsg
from .loop import Loop, Timer
from .upstream import Attempt

ASKERS = 64
"""Clients that share an exchange. One more is not heard, and asks again."""

Answer = Callable[[bytes], None]
Stages = List[List[str]]


class Keeper(Protocol):
    """What an exchange needs of the stub."""

    loop: Loop
    mark: int

    def patience(self, servers: List[str], *, last: bool) -> float:
        """Seconds for all servers of a stage; `last`: there is none after it."""

    def forget(self, exchange: Exchange) -> None:
        """The exchange is over."""

    def silent(self, servers: List[str], since: float) -> None:
        """A whole stage, asked at `since`, did not answer in its time."""

    def heard(self, server: str) -> None:
        """A server answered."""


class Exchange:
    """A question on its way."""

    def __init__(
        self, keeper: Keeper, key: Any, query: bytes, question: dnsmsg.Question, stages: Stages, now: float, *,
        stream: bool, private: bool,
    ) -> None:  # fmt: skip
        """`private`: whether the name exists only those of the first stage know."""
        self.key = key
        self.query = dnsmsg.respelled(query, question)
        """As it goes out."""
        self.began = now
        self._keeper = keeper
        self._question = question
        self._stages = stages
        self._stream = stream
        self._unheard = private
        self._askers: Dict[Tuple[Any, int], Tuple[bytes, Answer]] = {}
        self._stage = -1
        self._servers: List[str] = []
        self._attempts: Dict[Attempt, int] = {}
        self._best = b""
        self._best_rank = 9
        self._timer: Optional[Timer] = None
        self._over = False

    @property
    def section(self) -> bytes:
        """The question as it goes out."""
        return dnsmsg.section(self.query, self._question)

    @property
    def untried(self) -> Stages:
        """The stages that were not reached yet."""
        return self._stages[self._stage + 1 :]

    @property
    def servers(self) -> List[str]:
        """The stage of now."""
        return self._stages[self._stage]

    def join(self, client: Any, query: bytes, answer: Answer) -> Optional[Callable[[], None]]:
        """Answer this client as well; what takes it back. None when there are too many, or it asks a second time."""
        asker = (client, dnsmsg.ident(query))
        if asker in self._askers or len(self._askers) >= ASKERS:
            return None
        self._askers[asker] = (query, answer)
        return lambda: self._leave(asker)

    def start(self) -> None:
        """Ask the first server of the first stage."""
        self._next_stage()

    def cancel(self) -> None:
        """Forget everything; no answer is given."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        for attempt in self._attempts:
            attempt.close()
        self._attempts = {}
        self._keeper.forget(self)

    def finish(self) -> None:
        """Answer everybody with the best there is, or SERVFAIL."""
        self.cancel()
        askers, self._askers = self._askers, {}
        for query, answer in askers.values():
            if self._best and not (self._unheard and self._best_rank == 1):
                answer(dnsmsg.addressed(self._best, query, self._question))
            else:
                answer(dnsmsg.failure(query, dnsmsg.SERVFAIL))

    def _leave(self, asker: Tuple[Any, int]) -> None:
        self._askers.pop(asker, None)
        if not self._askers and not self._over:
            self.cancel()

    def _next_stage(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._stage += 1
        if self._stage >= len(self._stages):
            self._last_word()
            return
        self._servers = list(self._stages[self._stage])
        self._next_server()

    @property
    def _thinking(self) -> bool:
        """Whether who alone knows a private name was asked and has said nothing yet."""
        return self._unheard and 0 in self._attempts.values()

    def _last_word(self) -> None:
        """Nobody is left to ask; but who alone knows the name may still think, or wake up."""
        left = self.began + self._keeper.patience(self._stages[0], last=True) - time.monotonic()
        if self._thinking and left > 0:
            self._timer = self._keeper.loop.call_later(left, self.finish)
            for server in self._stages[0]:
                self._try(server, 0)  # a datagram may have been lost to a link that was full
        else:
            self.finish()

    def _next_server(self) -> None:
        """Ask the stage's next server; after its last one has had its time, go to the next stage."""
        if self._timer is not None:
            self._timer.cancel()
        while self._servers:
            if self._try(self._servers.pop(0), self._stage):
                asked = self._stages[self._stage]
                wait = self._keeper.patience(asked, last=not self.untried)
                self._timer = self._keeper.loop.call_later(wait / len(asked), self._waited)
                return
        self._next_stage()

    def _try(self, server: str, stage: int) -> bool:
        """Ask one; False when that fails at once."""
        attempt = Attempt(
            self._keeper.loop, server, self.query, self._question, stream=self._stream,
            mark=self._keeper.mark, done=self._done,
        )  # fmt: skip
        if not attempt.start():
            return False
        self._attempts[attempt] = stage
        return True

    def _waited(self) -> None:
        self._timer = None
        if not self._servers:
            self._keeper.silent(self._stages[self._stage], self.began)
        self._next_server()

    def _done(self, attempt: Attempt, reply: bytes, message: Optional[dnsmsg.Message]) -> None:
        stage = self._attempts.pop(attempt)
        rank = 9
        if message is not None:
            self._keeper.heard(attempt.server)
            rank = 0 if message.rcode == dnsmsg.NOERROR else 1 if message.rcode == dnsmsg.NXDOMAIN else 2
            if stage == 0:
                self._unheard = False
            if rank < self._best_rank:
                self._best, self._best_rank = reply, rank
        if rank == 0:
            self.finish()
        elif stage == self._stage:  # a late word from an earlier stage changes nothing
            if rank == 1:  # the stage's other servers see the same names
                self._next_stage()
            elif self._servers:
                self._next_server()
            elif stage not in self._attempts.values():
                self._next_stage()
        elif self._stage >= len(self._stages) and not self._thinking:
            self.finish()


def usable(own: List[str], ours: List[str]) -> List[str]:
    """The nameservers that are addresses and none of `ours`; glibc reads three at most."""
    found: List[str] = []
    for server in own:
        try:
            ipaddress.ip_address(server.split("%", 1)[0])
        except ValueError:
            continue
        if server not in ours and server not in found:
            found.append(server)
    return found[:3]
