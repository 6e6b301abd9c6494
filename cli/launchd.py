"""launchd on macOS: an agent of the user's own, in ~/Library/LaunchAgents (launchd.plist(5), launchctl(1))."""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any

from .service_job import Job
from .service_manager import Command, ServiceManager, unsayable

TARGET = "NETBRIDGE_SERVICE_TARGET"
"""A variable that nobody reads but `netbridge service`: a property list has no place for a stranger's key."""


class Launchd(ServiceManager):
    """The user's own launchd (the domain gui/UID)."""

    program = "launchctl"
    suffix = ".plist"

    @property
    def folder(self) -> Path:
        return self.user.home / "Library" / "LaunchAgents"

    def text(self, job: Job) -> bytes:
        log = str(self.user.home / "Library" / "Logs" / f"{job.name}.log")
        try:
            for word in (*job.words, *job.environment.values()):
                word.encode()
            return plistlib.dumps({
                "Label": job.name,
                "ProgramArguments": list(job.words),
                "EnvironmentVariables": {**job.environment, TARGET: job.target},
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},  # as Restart=on-failure
                "ThrottleInterval": 30,  # launchd knows no exit status that a person has to mend: it tries for ever
                "ExitTimeOut": 10,
                "ProcessType": "Interactive",  # programs that somebody looks at wait for each of its packets
                "Umask": 0o077,
                "HardResourceLimits": {"Core": 0},  # a core would hold keys
                "StandardErrorPath": log,
                "StandardOutPath": log,
            })
        except (UnicodeEncodeError, ValueError):
            raise unsayable(job) from None

    def target(self, data: bytes) -> str:
        try:
            return str(plistlib.loads(data)["EnvironmentVariables"][TARGET])
        except Exception:  # whatever a stranger's file holds
            return ""

    def links(self, name: str) -> list[Path]:
        return []

    @property
    def _domain(self) -> str:
        return f"gui/{self.user.uid}"

    def starting(self, name: str, *, known: bool, changed: bool) -> list[Command]:
        words = ("launchctl", "bootstrap", self._domain, str(self.file(name)))
        bootstrap = Command(words, may_fail=known and not changed)  # it fails where it was done before
        return [*(self.stopping(name) if known and changed else []), bootstrap]

    def stopping(self, name: str) -> list[Command]:
        return [Command(("launchctl", "bootout", f"{self._domain}/{name}"), may_fail=True)]

    def forgetting(self, name: str) -> list[Command]:
        return []

    def advice(self, name: str) -> list[str]:
        return [f"What it says: tail -f {self.user.home}/Library/Logs/{name}.log"]

    def question(self, name: str = "") -> tuple[str, ...]:
        return ("launchctl", "print", f"{self._domain}/{name}" if name else self._domain)

    def state(self, name: str) -> dict[str, Any]:
        done = self.ask(self.question(name))
        found = dict(re.findall(r"^\t(state|pid|runs) = (.+)$", done.stdout, re.MULTILINE))
        return {
            "state": found.get("state", "not loaded"), "enabled": done.returncode == 0,
            "pid": int(found["pid"]) if found.get("pid", "").isdecimal() else 0,
            "restarts": max(0, int(found["runs"]) - 1) if found.get("runs", "").isdecimal() else 0,
            "result": "", "status": "",
        }
