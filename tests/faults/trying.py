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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netbridge.bridge import events
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.firststage import agent_code

from .bridging import Bridging
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


class Case:
    """One fault, and when it is there."""

    def __init__(self, fault: Fault, when: str) -> None:
        self.fault, self.when = fault, when

    def __repr__(self) -> str:
        fault = self.fault
        calls = "every call" if fault.last > fault.first else f"call {fault.first}"
        return f"{fault.site} {fault.errno} {calls} {self.when}"


class Baseline:
    """What a run without a fault did: how often each site is called, for which errands, and which at the end."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.errands: defaultdict[str, set[str]] = defaultdict(set)
        self.ending: set[str] = set()
        self.counters: set[str] = set()

    def cases(self) -> Iterator[Case]:
        """Each site with each of its errors: the first call, one in the middle, the last, all, all of the end."""
        for site, count in sorted(self.calls.items()):
            if site.startswith(NO_SITES):
                continue
            for name in ERRNOS[site.rpartition(":")[2]]:
                if (site, name) in KERNEL:
                    continue
                for number in sorted({1, count // 2 + 1, count}):
                    yield Case(Fault(site, name, number, number), WHILE)
                yield Case(Fault(site, name), WHILE)
                if site in self.ending:
                    yield Case(Fault(site, name), END)


class Judge:
    """Looks at one run; `wrong` are sentences of what should not have been."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.records: list[logging.LogRecord] = []
        self._descriptors = descriptors()
        self._threads = threading.active_count()

    @contextmanager
    def looking(self) -> Iterator[None]:
        handler = logging.Handler(logging.INFO)
        handler.emit = self._record  # type: ignore[method-assign]
        root = logging.getLogger()
        level, others = root.level, root.handlers[:]
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        unraisable, sys.unraisablehook = sys.unraisablehook, lambda it: self.wrong.append(
            f"unraisable: {type(it.exc_value).__name__}: {it.exc_value} in {it.object!r}"
        )
        thread, threading.excepthook = threading.excepthook, lambda it: self.wrong.append(f"in a thread: {it}")
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield
                gc.collect()
            self.wrong += [f"warning: {it.message}" for it in warned if issubclass(it.category, ResourceWarning)]
        finally:
            root.handlers[:] = others
            root.setLevel(level)
            sys.unraisablehook, threading.excepthook = unraisable, thread

    def complaint(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if any(text in context["message"] for text in ASYNCIO):
            return
        error = context.get("exception")
        lines = traceback.format_exception(error) if error else []
        self.wrong.append(f"the event loop was told: {context['message']}: {error!r}\n{''.join(lines[-6:])}")

    def _record(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.exc_info or record.levelno >= logging.ERROR or "Error:" in record.getMessage():
            trace = "".join(traceback.format_exception(*record.exc_info)[-6:]) if record.exc_info else ""
            self.wrong.append(f"logged: {record.getMessage()}\n{trace}")

    def balance(self, folder: Path, site: str = "") -> None:
        """Nothing is left."""
        now = descriptors()
        if now != self._descriptors:
            self.wrong.append(f"{sum(now.values()) - sum(self._descriptors.values())} descriptors more: "
                              f"{now - self._descriptors}, less: {self._descriptors - now}")
        if threading.active_count() > self._threads + 1:
            self.wrong.append(f"threads: {threading.enumerate()}")
        left = os.listdir(folder) if folder.exists() else []
        if left and not site.startswith(STAYING):
            self.wrong.append(f"left in the runtime folder: {left}")


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


class Bench:
    """One place in which scenes run."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers, self.folder = servers, folder
        self.baseline = Baseline()

    def look(self) -> Baseline:
        """Run without a fault, twice: what happens only the first time in a process is no part of it."""
        for _ in range(2):
            self.baseline = baseline = Baseline()
            judge = Judge()
            with Seam() as seam, judge.looking():
                self._run(judge, seam, lambda bridging: self._calm(bridging, seam, baseline))
            baseline.calls = seam.calls
            judge.balance(self.folder / "run")
        assert not judge.wrong, judge.wrong
        return baseline

    async def _calm(self, bridging: Bridging, seam: Seam, baseline: Baseline) -> None:
        calls, doing = Counter(seam.calls), ""

        def before(name: str) -> None:
            nonlocal calls, doing
            for site in seam.calls - calls if doing else ():
                baseline.errands[site].add(doing)
            calls, doing = Counter(seam.calls), name

        await bridging.one_after_the_other(before)
        assert not (failed := await bridging.at_once()), failed
        baseline.counters = counted(bridging)
        seam.ending = Counter(seam.calls)  # type: ignore[attr-defined]

    def attempt(self, case: Case) -> tuple[list[str], int]:
        """Run with a fault: what was wrong, and how many calls failed."""
        agent_code.cache_clear()
        judge = Judge()
        with Seam() as seam, judge.looking():
            if case.when == WHILE:
                seam.fault = case.fault
            self._run(judge, seam, lambda bridging: self._disturbed(bridging, seam, judge, case))
            seam.fault = None
        judge.balance(self.folder / "run", case.fault.site)
        for name in os.listdir(self.folder / "run") if (self.folder / "run").exists() else ():
            os.unlink(self.folder / "run" / name)
        return judge.wrong, seam.hits

    async def _disturbed(self, bridging: Bridging, seam: Seam, judge: Judge, case: Case) -> None:
        touched = self.baseline.errands.get(case.fault.site, set())
        if case.when == WHILE:
            failed = await bridging.at_once()
            for name, error in failed.items():
                if name not in touched:
                    judge.wrong.append(f"the errand {name!r}, which does not need it, failed: {error!r}")
                if isinstance(error, AssertionError):
                    judge.wrong.append(f"the errand {name!r}: {error}")
            if failed and not counted(bridging) - self.baseline.counters and not judge.records:
                if not any(isinstance(it, events.Hint) for it in bridging.life.told) and not bridging.complaints:
                    if case.fault.site.startswith(("bridge.forward", "bridge.dns")):
                        judge.wrong.append(f"nothing tells why failed: {failed}")
            over = seam.hits or case.fault.last > case.fault.first
            if over:
                seam.fault = None  # else the call is still to come
            for name, error in (await bridging.at_once()).items():
                if case.fault.site.startswith("asyncio/selector_events:_add_reader"):
                    continue  # the connection is deaf, see ASYNCIO
                if over or name not in touched:
                    judge.wrong.append(f"when it was over, the errand {name!r} failed: {error!r}")
        else:
            seam.fault = case.fault
        if bridging.session.state != "running":
            judge.wrong.append(f"the bridge is {bridging.session.state}")

    def _run(self, judge: Judge, seam: Seam, act: Any) -> None:
        seam.counting = False
        status: object = None
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.get_loop().set_exception_handler(judge.complaint)

            async def running() -> object:
                seam.counting = True
                try:
                    bridging = Bridging(self.servers, self.folder)
                except OSError:
                    return "no log file"  # LogFile says so, and `netbridge up` refuses the option
                try:
                    return await bridging.run(act)
                except BaseExceptionGroup as group:
                    error: BaseException = group
                    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                        error = error.exceptions[0]
                    return error
                except BridgeError as error:
                    return error
                finally:
                    await asyncio.sleep(0)
                    if left := asyncio.all_tasks() - {asyncio.current_task()}:
                        judge.wrong.append(f"tasks: {left}")

            status = runner.run(running())
            seam.counting = False
        if isinstance(status, BridgeError):
            if not (status.what and status.why and status.todo) or not 1 <= status.exit_code <= 5:
                judge.wrong.append(f"this is no proper failure: {status!r}")
        elif isinstance(status, BaseException):
            judge.wrong.append(f"it ended by {status!r}\n{''.join(traceback.format_exception(status)[-8:])}")
        elif status not in (0, "no log file"):
            judge.wrong.append(f"its status is {status}")


def chosen(cases: list[Case], most: int, seed: int) -> list[Case]:
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
