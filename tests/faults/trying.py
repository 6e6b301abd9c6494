"""Lets a scene run once to see its calls, then once with each fault, and says what was not as it should be.

What has to hold whatever fails (`Judge`): no exception reaches the event loop or the log with a traceback, nothing
that is not told, no descriptor, task or thread more than before, an empty runtime folder; errands that do not need the
site go on; when the fault is over each errand succeeds; a bridge that cannot start says so as a BridgeError, and one
that runs ends with status 0.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import sys
import threading
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from netbridge.bridge.errors import BridgeError
from netbridge.bridge.firststage import agent_code

from .bridging import PATIENCE, Bridging
from .seam import ERRNOS, Fault, Seam
from .servers import Servers

WHILE, END = "while", "at the end"

KERNEL = {
    ("bridge.forward.tcpflow:_read_host:recv", "EAGAIN"),
    ("bridge.forward.tcpflow:data_received:send", "EAGAIN"),
}
"""Faults that no kernel makes: a stream that says EAGAIN is full or empty, and tells when it is not any more, which an
invented one does not. Full and empty ones are the daily bread of the other tests."""
ASYNCIO = ("socket.accept() out of system resource", "_SelectorTransport._add_reader")
"""What asyncio tells of itself and mends, or leaves (a connection that it cannot watch stays deaf until its peer goes):
no fault of ours, and the program runs on another loop."""
NO_SITES = ("asyncio/selector_events:_read_from_self", "asyncio/base_events:")
"""The event loop's own: nobody else's call fails by them."""
STAYING = ("bridge.runtime:remove:unlink", "bridge.runtime:_lock:flock")
"""Where these fail a file is left in the runtime folder, which whoever looks next removes."""


class Case(NamedTuple):
    """One fault, and when it is there."""

    fault: Fault
    when: str

    def __str__(self) -> str:
        fault = self.fault
        calls = "every call" if fault.last > fault.first else f"call {fault.first}"
        return f"{fault.site} {fault.errno}, {calls} {self.when}"


class Baseline:
    """What a run without a fault did: how often each site is called, for which errands, and which at the end."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.errands: defaultdict[str, set[str]] = defaultdict(set)
        self.before_the_end: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        """Calls while all errands are done at once."""
        self.counters: set[str] = set()

    def cases(self, *, errands: bool) -> list[Case]:
        """Each site with each of its errors: the first call, one in the middle, the last, all, all of the end.

        `errands`: of the sites that errands need, else of the others: starting and ending.
        """
        found = []
        for site, count in sorted(self.calls.items()):
            if site.startswith(NO_SITES):
                continue
            for name in ERRNOS[site.rpartition(":")[2]]:
                if (site, name) in KERNEL:
                    continue
                if errands and site in self.errands:
                    count = self.at_once[site]
                    found += [Case(Fault(site, name, at, at), WHILE) for at in sorted({1, count // 2 + 1, count} - {0})]
                    found.append(Case(Fault(site, name), WHILE))
                if not errands and site not in self.errands:
                    found += [Case(Fault(site, name, at, at), WHILE) for at in sorted({1, count // 2 + 1, count})]
                    found.append(Case(Fault(site, name), WHILE))
                if not errands and self.calls[site] > self.before_the_end[site]:
                    found.append(Case(Fault(site, name), END))
        return found


class Judge:
    """Looks at one run; `wrong` are sentences of what should not have been."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.case: Case | None = None
        """What is tried now."""
        self._descriptors = descriptors()
        self._threads = threading.active_count()

    def blame(self, what: str) -> None:
        self.wrong.append(f"{self.case}: {what}" if self.case else what)

    @contextmanager
    def looking(self) -> Iterator[None]:
        handler = logging.Handler(logging.INFO)
        handler.emit = self._record  # type: ignore[method-assign]
        root = logging.getLogger()
        level, others = root.level, root.handlers[:]
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        unraisable, sys.unraisablehook = sys.unraisablehook, lambda it: self.blame(
            f"unraisable: {type(it.exc_value).__name__}: {it.exc_value} in {it.object!r}"
        )
        thread, threading.excepthook = threading.excepthook, lambda it: self.blame(f"in a thread: {it}")
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield
                gc.collect()
            for it in warned:
                if issubclass(it.category, ResourceWarning):
                    self.blame(f"warning: {it.message}")
        finally:
            root.handlers[:] = others
            root.setLevel(level)
            sys.unraisablehook, threading.excepthook = unraisable, thread

    def complaint(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if any(text in context["message"] for text in ASYNCIO):
            return
        error = context.get("exception")
        lines = traceback.format_exception(error) if error else []
        self.blame(f"the event loop was told: {context['message']}: {error!r}\n{''.join(lines[-6:])}")

    def _record(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.exc_info or record.levelno >= logging.ERROR or "Error:" in record.getMessage():
            trace = "".join(traceback.format_exception(*record.exc_info)[-6:]) if record.exc_info else ""
            self.blame(f"logged: {record.getMessage()}\n{trace}")

    def balance(self, folder: Path) -> None:
        """Nothing is left."""
        now = descriptors()
        if now != self._descriptors:
            self.blame(f"descriptors more: {now - self._descriptors}, less: {self._descriptors - now}")
        if threading.active_count() > self._threads + 1:
            self.blame(f"threads: {threading.enumerate()}")
        left = os.listdir(folder) if folder.exists() else []
        if left and not (self.case and self.case.fault.site.startswith(STAYING)):
            self.blame(f"left in the runtime folder: {left}")
        for name in left:
            os.unlink(folder / name)


def descriptors() -> Counter[str]:
    """What this process has open, by kind."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").partition("[")[0]] += 1
        except OSError:
            continue  # the listing's own
    return found


def counted(bridging: Bridging) -> set[str]:
    """The counters that are not 0."""
    engine = bridging.session.engine
    rooms = engine.counters() if engine else {}
    return {f"{room}.{name}" for room, values in rooms.items() for name, value in values.items() if value}


Act = Callable[[Bridging], Awaitable[None]]


class Bench:
    """One place in which scenes run."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers, self.folder = servers, folder
        self.runtime = folder / "run"
        self.baseline = Baseline()
        self.hit: Counter[Case] = Counter()
        """Calls that failed, by case."""

    def look(self) -> Baseline:
        """Run without a fault, twice: what happens only the first time in a process is no part of it."""
        for _ in range(2):
            self.baseline = Baseline()
            judge = Judge()
            with Seam() as seam, judge.looking():
                self._run(judge, seam, partial(self._calm, seam))
            self.baseline.calls = seam.calls
            judge.balance(self.runtime)
        assert not judge.wrong, judge.wrong
        return self.baseline

    async def _calm(self, seam: Seam, bridging: Bridging) -> None:
        baseline, calls, doing = self.baseline, Counter(seam.calls), ""

        def before(name: str) -> None:
            nonlocal calls, doing
            for site in seam.calls - calls if doing else ():
                baseline.errands[site].add(doing)
            calls, doing = Counter(seam.calls), name

        await bridging.one_after_the_other(before)
        before_it = Counter(seam.calls)
        assert not (failed := await bridging.at_once()), failed
        baseline.at_once = seam.calls - before_it
        baseline.counters = counted(bridging)
        baseline.before_the_end = Counter(seam.calls)

    # --- with faults

    def alone(self, case: Case) -> list[str]:
        """A run of its own with one fault from the start, or from the end on; what was wrong."""
        agent_code.cache_clear()
        judge = Judge()
        judge.case = case
        with Seam() as seam, judge.looking():
            seam.arm(case.fault if case.when == WHILE else None)
            self._run(judge, seam, partial(self._waiting_for_it, seam, judge, case))
            self.hit[case] += seam.hits
            seam.arm(None)
        judge.balance(self.runtime)
        return judge.wrong

    async def _waiting_for_it(self, seam: Seam, judge: Judge, case: Case, bridging: Bridging) -> None:
        if case.when == WHILE and seam.hits:
            hits = seam.hits
            seam.arm(None)
            seam.hits = hits
            await self._all_well(judge, bridging)
        elif case.when == END:
            seam.arm(case.fault)

    def jumping(self, jump: Callable[[str, float], None], jumps: Sequence[tuple[str, float]]) -> list[str]:
        """One bridge whose clocks jump, `jump(clock, seconds)`, while errands are done; what was wrong."""
        judge = Judge()

        async def live(bridging: Bridging) -> None:
            await self._all_well(judge, bridging)
            for clock, seconds in jumps:
                jump(clock, seconds)
                async with asyncio.timeout(PATIENCE):
                    while await bridging.at_once() or bridging.session.state != "running":
                        await asyncio.sleep(0.05)
                await self._all_well(judge, bridging)
                if bridging.session.status()["uptime"] < 0:
                    judge.blame("a negative uptime")

        with Seam() as seam, judge.looking():
            self._run(judge, seam, live)
        judge.balance(self.runtime)
        return judge.wrong

    def together(self, cases: Sequence[Case]) -> list[str]:
        """One bridge that meets one fault after the other while errands are done; what was wrong."""
        judge = Judge()

        async def meet(bridging: Bridging) -> None:
            for judge.case in cases:
                seam.arm(judge.case.fault)
                failed = await bridging.at_once(self.baseline.errands[judge.case.fault.site])
                self.hit[judge.case] += seam.hits
                seam.arm(None)
                self._judge_errands(judge, judge.case, failed, bridging)
                if failed:
                    await self._all_well(judge, bridging)
            judge.case = None
            await self._all_well(judge, bridging)

        with Seam() as seam, judge.looking():
            self._run(judge, seam, meet)
        judge.balance(self.runtime)
        return judge.wrong

    def _judge_errands(self, judge: Judge, case: Case, failed: dict[str, Exception], bridging: Bridging) -> None:
        for name, error in failed.items():
            if name not in self.baseline.errands[case.fault.site]:
                judge.blame(f"the errand {name!r}, which does not need it, failed: {error!r}")
            if isinstance(error, AssertionError):
                judge.blame(f"the errand {name!r}: {error}")
        if failed and case.fault.site.startswith(("bridge.forward", "bridge.dns")):
            if not counted(bridging) - self.baseline.counters and not judge.records:
                judge.blame(f"no counter and no log tells why there failed: {failed}")

    async def _all_well(self, judge: Judge, bridging: Bridging) -> None:
        if judge.case and judge.case.fault.site.startswith("asyncio/selector_events:_add_reader"):
            return  # the connection stays deaf, see ASYNCIO
        for name, error in (await bridging.at_once()).items():
            judge.blame(f"when it was over, the errand {name!r} failed: {error!r}")
        if bridging.session.state != "running":
            judge.blame(f"the bridge is {bridging.session.state}")

    def _run(self, judge: Judge, seam: Seam, act: Act) -> None:
        """One bridge from start to stop; what it ended with is judged."""
        seam.counting = False
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.get_loop().set_exception_handler(judge.complaint)
            ended = runner.run(self._bridging(judge, seam, act))
            seam.counting = False
        if isinstance(ended, BridgeError):
            if not (ended.what and ended.why and ended.todo) or not 1 <= ended.exit_code <= 5:
                judge.blame(f"this is no proper failure: {ended!r}")
            if judge.case is None:
                judge.blame(f"it ended by {ended!r}")
        elif isinstance(ended, BaseException):
            judge.blame(f"it ended by {ended!r}\n{''.join(traceback.format_exception(ended)[-8:])}")
        elif ended:
            judge.blame(f"its status is {ended}")

    async def _bridging(self, judge: Judge, seam: Seam, act: Act) -> int | BaseException:
        seam.counting = True
        try:
            bridging = Bridging(self.servers, self.folder)
        except OSError:  # the log file's; `netbridge up` says so and refuses the option
            return 0
        try:
            return await bridging.run(act)
        except Exception as error:
            inner: BaseException = error
            while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
                inner = inner.exceptions[0]
            return inner
        finally:
            await asyncio.sleep(0)
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                judge.blame(f"tasks: {left}")


def chosen(cases: Sequence[Case], most: int, seed: int) -> list[Case]:
    """`most` of them, from as many sites as possible, by seed."""
    mixed = random.Random(seed)
    by_site: dict[str, list[Case]] = {}
    for case in cases:
        by_site.setdefault(case.fault.site, []).append(case)
    for group in by_site.values():
        mixed.shuffle(group)
    sites = list(by_site)
    mixed.shuffle(sites)
    found: list[Case] = []
    while len(found) < min(most, len(cases)):
        for site in sites:
            if by_site[site] and len(found) < most:
                found.append(by_site[site].pop())
    return found
