"""`netbridge up` on the laptop, watched through what it prints and what `netbridge status --json` says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import balance

from .machine import Machine, Output, Program, text, wait_until
from .sshd import PERSON

ROOT = Path(__file__).resolve().parent.parent.parent
NETBRIDGE = (sys.executable, "-m", "netbridge")
PATIENCE = 2.0
"""Seconds for a bridge to say how it is."""
MARK = "86397"
"""Seconds of the sleep that keeps a sandbox open: tells it from every other sleep."""


class Bridge:
    """One running bridge. `events` are its own words: it is started with --log-format json."""

    def __init__(
        self, laptop: Machine, target: str, *options: str, command: tuple[str, ...] = (), prefix: tuple[str, ...] = ()
    ) -> None:
        """Start it; `ready` waits for it. A sandbox without COMMAND gets one that waits.

        `prefix`: the words in front of `up`, when it is not to be run as root (see `as_person`).
        """
        self.laptop = laptop
        self.target = target
        self.sandbox = target == "sandbox"
        self._stormy = any("stormy" in word for word in prefix)
        """Packets are lost on purpose between its link and its stack (tests/soak)."""
        if self.sandbox and not command:
            command = ("sleep", MARK)
        self._log = laptop.folder / f"netbridge-{time.monotonic_ns()}.log"
        words = [*(prefix or NETBRIDGE), "up", target, "--gui", "false", "--log-format", "json", *options]
        with open(self._log, "wb") as sink:
            self.program: Program = laptop.start(
                *words,
                *(["--", *command] if command else []),
                stderr=sink,
                log="netbridge.out",
                environment=environment(),
            )

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def said(self) -> str:
        """Its standard error until now."""
        return text(self._log.read_bytes())

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events it told; lines that are none (of a library, of the interpreter) are left out."""
        found = []
        for line in self.said.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and "event" in record:
                found.append(record)
        return found

    def event(self, kind: str) -> dict[str, Any] | None:
        """The last event of this kind, or None."""
        return next((record for record in reversed(self.events) if record["event"] == kind), None)

    def ready(self, timeout: float = 20.0) -> Bridge:
        """Wait until packets flow; AssertionError with everything it said when it ends instead."""
        deadline = time.monotonic() + timeout
        kind = "command_started" if self.sandbox else "ready"
        while not self.event(kind):
            if not self.program.running:
                raise AssertionError(f"netbridge up {self.target} ended with {self.program.wait()}:\n{self.said}")
            if time.monotonic() > deadline:
                raise AssertionError(f"netbridge up {self.target} is not ready after {timeout:g} s:\n{self.said}")
            time.sleep(0.02)
        return self

    def status(self) -> dict[str, Any]:
        """This bridge in `netbridge status --json`."""
        bridges = json.loads(netbridge(self.laptop, "status", "--json").check().stdout)["bridges"]
        return next(bridge for bridge in bridges if bridge.get("target") == self.target)

    # --- where its processes are --------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self.program.pid

    def inside(self) -> int:
        """The process id of a sandbox's COMMAND: whose namespaces are the sandbox."""

        def find() -> int:
            for pid, words in self.laptop.processes(below=True).items():
                if words == f"sleep {MARK}":
                    try:
                        if os.readlink(f"/proc/{pid}/ns/net") != os.readlink(f"/proc/{self.laptop.init}/ns/net"):
                            return pid
                    except OSError:
                        continue
            return 0

        return wait_until(find, "the sandbox's command")

    # --- the end ------------------------------------------------------------------------------------------------------

    def ended(self, timeout: float = 15.0) -> int:
        """Wait for its end; the exit status."""
        try:
            return self.program.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"netbridge up {self.target} still runs after {timeout:g} s:\n{self.said}") from None

    def stop(self) -> int:
        """End it in order (SIGTERM); the exit status. AssertionError when its counters do not add up, or it leaves any
        of its processes, its socket or its lock.
        """
        if not self.program.running:
            return self.ended()
        wrong, files = self.last_words()
        below = descendants(self.pid)
        self.program.signal(signal.SIGTERM)
        status = self.ended()
        wait_until(lambda: not [pid for pid in below if alive(pid)], "the bridge's processes to end")
        wrong += [f"{path} is left" for path in files if path.exists()]
        assert not wrong, "\n".join([*wrong, self.said])
        return status

    def last_words(self) -> tuple[list[str], list[Path]]:
        """What does not add up in its counters, and its files in the runtime folder. Nothing of one that does not
        answer (it was frozen, say), or whose folder is another user's.
        """
        folder = Path(f"/proc/{self.laptop.init}/root/run/netbridge")
        for path in folder.glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(OSError, ValueError):
                asking.settimeout(PATIENCE)
                asking.connect(str(path))
                asking.sendall(b'{"ask": "status", "flows": 0}\n')
                state = json.loads(asking.makefile("rb").readline())
                if state.get("target") == self.target:
                    counters = dict(state["counters"])
                    if self._stormy:
                        del counters["link"]
                    return balance.check(counters), [path, path.with_suffix(".lock")]
        return [], []

    def close(self) -> None:
        """Whatever happens, it is gone afterwards."""
        try:
            self.stop()
        except AssertionError:
            self.program.kill()
            raise
        finally:
            self.program.kill()


def descendants(pid: int) -> set[int]:
    """The processes that this one started, and theirs."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii").split()):
                found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked how does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2][1] != "Z"
    except OSError:
        return False


def environment() -> dict[str, str]:
    """What netbridge needs to run from the source folder."""
    return {"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def python_for_everybody() -> str:
    """An interpreter that ordinary users may run, or an empty string: a virtual environment may stand on root's own."""
    real = Path(sys.executable).resolve()
    folders = [*real.parents, *Path(sys.executable).absolute().parents]
    if all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders):
        return sys.executable
    other = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return other if os.path.exists(other) else ""


def for_everybody(laptop: Machine, folder: Path) -> Path:
    """`folder`, or another way into it on the laptop: the project may stand in root's home, which is closed."""
    if all(above.stat().st_mode & 0o005 == 0o005 for above in (folder, *folder.parents)):
        return folder
    way_in = laptop.folder / "for-everybody" / folder.name
    if not way_in.exists():
        way_in.mkdir(parents=True)
        laptop.run("mount", "--bind", folder, way_in).check()
    return way_in


def as_person(laptop: Machine, python: str, *, sudo: bool = False) -> tuple[str, ...]:
    """The words that run netbridge as the laptop's ordinary user, or as root by that user's sudo."""
    name, number = PERSON
    home = laptop.folder / name
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    sources = for_everybody(laptop, ROOT) / "src"
    variables = {**environment(), "PYTHONPATH": f"{sources}:{for_everybody(laptop, packages)}"}
    settings = ["env", *(f"{key}={value}" for key, value in variables.items())]
    person = [
        "setpriv",
        f"--reuid={number}",
        f"--regid={number}",
        "--init-groups",
        "env",
        f"HOME={home}",
        f"USER={name}",
        f"LOGNAME={name}",
    ]
    return (*person, *(["sudo", "-n", "-H"] if sudo else []), *settings, python, "-m", "netbridge")


def netbridge(laptop: Machine, *words: str, timeout: float = 30.0) -> Output:
    """Run one netbridge command on the laptop to its end."""
    return laptop.run(*NETBRIDGE, *words, timeout=timeout, environment=environment())
