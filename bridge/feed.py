"""What a running bridge shows to those who watch it: a stream of JSON lines, a few a second, each of bounded size.

A watcher says what it looks at (`Wish`): how many rows, in which order, with which words in them. Only that is sent,
and of it only what changed; so 5,000 flows cost a look at each and some fifty rows (`sampling.py`), and all looks take
a hundredth of the time at most: where one is dearer, the next comes later. A watcher that does not read misses frames,
it gets no queue. Nothing here runs while nobody watches, but for a ring of the last events.

A frame holds `now` (the clock of all times in it), `bridge`, `header`, `order` (numbers of the flows to show, in order)
and `rows` (those of them that changed), `matching` (flows that the words fit), `questions` and `log` (what is new), and
`details` of the flow that was asked for. `events` in the log are named and filled as in `events.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import netbridge

from . import events
from .sampling import SORTS, Sampler

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

EVERY = 0.25
"""Seconds between frames: what an eye follows."""
RAREST = 2.0
"""The same, however much there is to look at."""
SHARE = 0.01
"""Of the event loop's time that watchers may cost, all together."""
REMEMBERED = 500
"""Events and log records that a new watcher is told."""
REMEMBERED_BYTES = 1 << 20
"""All of them together, as JSON: part of what they say was written by the target."""
ENTRY_MAX = 1 << 16
"""Bytes of one of them; a longer one loses what no screen shows."""
ASK_EVERY = 2.0
"""Seconds between questions to the target whose answers tell the round trip; a link that carries is not asked else."""
ROWS_MAX = 500
"""Rows of each kind that a watcher can ask for; a tall terminal has a hundred."""
WORDS_MAX = 8

Send = Callable[[bytes], bool]
"""Takes a line; False when the one before was not taken yet, and this one is not sent."""


@dataclass(slots=True)
class Wish:
    """What one watcher looks at."""

    rows: int = 50
    """Flows."""
    sort: str = "rate"
    """One of SORTS."""
    reverse: bool = False
    words: tuple[str, ...] = ()
    """A flow is shown when each of these is somewhere in it."""
    questions: int = 100
    """Questions and log entries in one frame, at most."""
    details: int = 0
    """The number of the flow that is looked at in full."""

    def change(self, request: Mapping[str, Any]) -> None:
        """Take what a request says; what makes no sense is passed over."""
        for name in ("rows", "questions", "details"):
            if isinstance(value := request.get(name), int):
                setattr(self, name, max(0, min(value, ROWS_MAX) if name != "details" else value))
        if isinstance(value := request.get("sort"), str) and value in SORTS:
            self.sort = value
        if isinstance(value := request.get("reverse"), bool):
            self.reverse = value
        if isinstance(value := request.get("filter"), str):
            self.words = tuple(value.lower().split()[:WORDS_MAX])


class Feed:
    """The watchers of one bridge, and what is remembered for them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._log: deque[dict[str, Any]] = deque()
        self._sizes: deque[int] = deque()
        """Bytes of each as JSON."""
        self._remembered = 0
        self._logged = 0
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._sampler: Sampler | None = None
        self._numbers = itertools.count(1)
        self._throughput = _Throughput()
        self._resumed = 0
        self._asked = 0.0

    def event(self, event: events.Event) -> None:
        """Something happened."""
        if isinstance(event, events.Resumed):
            self._resumed += 1
        self._remember({"event": type(event).__name__, "fields": dataclasses.asdict(event)})

    def log(self, level: str, logger: str, text: str) -> None:
        """A log record was written."""
        self._remember({"level": level, "logger": logger, "text": text})

    def _remember(self, entry: dict[str, Any]) -> None:
        size = len(json.dumps(entry, default=str))
        if size > ENTRY_MAX:
            entry = _shortened(entry)
            size = len(json.dumps(entry, default=str))
        self._log.append({"number": self._logged, "time": round(time.time(), 3), **entry})
        self._sizes.append(size)
        self._remembered += size
        self._logged += 1
        while len(self._log) > REMEMBERED or self._remembered > REMEMBERED_BYTES:
            self._log.popleft()
            self._remembered -= self._sizes.popleft()

    def watch(self, request: Mapping[str, Any], send: Send) -> Watcher:
        """Send frames from now on, until the watcher is closed."""
        watcher = Watcher(self, send)
        watcher.change(request)
        self._watchers.add(watcher)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(_failed)
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Send no more to this one."""
        self._watchers.discard(watcher)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None
            if self._sampler is not None:
                self._sampler.close()
                self._sampler = None
            self._throughput = _Throughput()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = time.thread_time()
            self._ask(loop.time())
            engine = self._session.engine
            if engine is not None and engine.table is not None:
                if self._sampler is None:
                    self._sampler = Sampler(engine.table, engine.questions, self._numbers, loop.time)
                self._sampler.look()
            header = self._header(loop.time())
            for watcher in list(self._watchers):
                watcher.tell(self._sampler, header)
            cost = time.thread_time() - began
            await asyncio.sleep(max(EVERY, min(cost / SHARE, RAREST)))

    def _ask(self, now: float) -> None:
        """Have the round trip measured, unless that would keep a codespace awake."""
        session = self._session
        if session.state != "running" or session.agent is None or now - self._asked < ASK_EVERY:
            return
        framed = session.agent.framed
        if framed.carrying and (session.options.keep_awake or time.monotonic() - framed.heard_at < ASK_EVERY):
            self._asked = now
            framed.ping()

    def _header(self, now: float) -> dict[str, Any]:
        session = self._session
        engine, agent = session.engine, session.agent
        totals = [0, 0]
        dropped = denied = 0
        if engine is not None and engine.stack is not None and self._sampler is not None:
            tcp, others = engine.stack.tcp.counters, self._sampler.others
            totals = [tcp.bytes_in + others[0], tcp.bytes_out + others[1]]
            rooms = engine.rooms()
            dropped = sum(map(_dropped, rooms.values()))
            denied = getattr(rooms.get("policy"), "denied", 0)
        up, down = self._throughput.rates(now, totals)
        return {
            "state": session.state, "uptime": round(time.monotonic() - session.began, 1),
            "rtt": agent.framed.rtt if agent else None,
            "up": round(up), "down": round(down), "bytes_up": totals[0], "bytes_down": totals[1],
            "flows": self._sampler.counts if self._sampler else {},
            "questions": engine.questions.total if engine else 0,
            "reconnects": self._resumed, "dropped": dropped, "denied": denied,
        }

    def bridge(self) -> dict[str, Any]:
        """What seldom changes."""
        session = self._session
        found: dict[str, Any] = {"target": session.options.target, "version": netbridge.__version__}
        if session.reservation:
            found["number"] = session.reservation.number
        if agent := session.agent:
            found |= {"host": str(agent.hello.get("host") or ""), "user": str(agent.hello.get("user") or "")}
            found |= {"tun": str(agent.ready.get("tun") or ""), "dns": bool(agent.ready.get("dns"))}
        if session.addresses:
            found["addresses"] = [address.partition("/")[0] for address in session.addresses.tun]
        if session.capturing:
            found["captured"] = [network.network for network in session.capturing.captured[:ROWS_MAX]]
        return found

    def details(self, number: int) -> dict[str, Any] | None:
        """One flow in full; None when it is not known any more."""
        seen = self._sampler.find(number) if self._sampler else None
        return {**self._sampler.row(seen), **seen.flow.details()} if self._sampler and seen else None

    def news(self, asked: int, logged: int, most: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Questions and log entries from these numbers on."""
        engine = self._session.engine
        entries: list[dict[str, Any]] = []
        for entry in reversed(self._log):
            if entry["number"] < logged or len(entries) >= most:
                break
            entries.append(entry)
        return engine.questions.since(asked, most) if engine else [], entries[::-1]


def _shortened(value: Any) -> Any:
    """The beginnings of its texts and lists: twenty networks of two texts each are a tenth of ENTRY_MAX."""
    if isinstance(value, str):
        return value if len(value) <= 150 else f"{value[:150]}…"
    if isinstance(value, dict):
        return {key: _shortened(it) for key, it in value.items()}
    return [_shortened(it) for it in value[:20]] if isinstance(value, (list, tuple)) else value


def _failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("nobody can watch any more", exc_info=error)


class Watcher:
    """One who watches."""

    def __init__(self, feed: Feed, send: Send) -> None:
        self._feed = feed
        self._send = send
        self._wish = Wish()
        self._bridge: dict[str, Any] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._logged = 0

    def change(self, request: Mapping[str, Any]) -> None:
        """Look at something else."""
        self._wish.change(request)

    def close(self) -> None:
        self._feed.forget(self)

    def tell(self, sampler: Sampler | None, header: dict[str, Any]) -> None:
        """Send a frame, unless the last one was not read yet."""
        wish = self._wish
        frame: dict[str, Any] = {"now": round(time.monotonic(), 2), "header": header}
        bridge = self._feed.bridge()
        if bridge != self._bridge:
            frame["bridge"] = bridge
        rows: dict[int, dict[str, Any]] = {}
        if sampler is not None:
            top, frame["matching"] = sampler.top(
                wish.rows, wish.sort, reverse=wish.reverse, words=wish.words
            )
            rows = {seen.number: sampler.row(seen) for seen in top}
            frame["order"] = list(rows)
            frame["rows"] = [row for number, row in rows.items() if self._rows.get(number) is not row]
        questions, entries = self._feed.news(self._asked, self._logged, wish.questions)
        frame["questions"], frame["log"] = questions, entries
        if wish.details:
            frame["details"] = self._feed.details(wish.details)
        if self._send(json.dumps(frame, default=str).encode() + b"\n"):
            self._bridge, self._rows = bridge, rows
            if questions:
                self._asked = questions[-1]["number"] + 1
            if entries:
                self._logged = entries[-1]["number"] + 1


class _Throughput:
    """Bytes a second from sums."""

    def __init__(self) -> None:
        self._at = 0.0
        self._before = [0, 0]

    def rates(self, now: float, totals: list[int]) -> list[float]:
        """What came since the last call, by the second."""
        seconds, before = now - self._at, self._before
        first = not self._at
        self._at, self._before = now, list(totals)
        if first or seconds <= 0:
            return [0.0, 0.0]
        return [max(0, totals[way] - before[way]) / seconds for way in (0, 1)]


_DROPS: dict[type, list[str]] = {}
"""The fields that count dropped packets, by the counters' class."""


def _dropped(counters: object) -> int:
    kind = type(counters)
    names = _DROPS.get(kind)
    if names is None:
        assert is_dataclass(counters)
        names = _DROPS[kind] = [item.name for item in fields(counters) if item.name.startswith("dropped")]
    return sum(getattr(counters, name) for name in names)
