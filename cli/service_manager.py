"""What is asked of a service manager: where its files lie, what stands in one, which commands start and stop it.

systemd.py and launchd.py answer. Its programs run as the user whose service it is: under sudo who called sudo.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netbridge.bridge.errors import BridgeError, TargetLacksError, UsageError
from netbridge.bridge.user import User

from .service_job import Job
from .text import clean

ANSWER_SECONDS = 20.0
"""A manager that is asked answers at once; a bus that nobody serves is given up after that."""
START_SECONDS = 15 * 60
"""A start ends at the latest then: a codespace may take five minutes to start and five more until SSH answers."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the manager's."""

    words: tuple[str, ...]
    may_fail: bool = False
    """It only brings about what may be so already."""

    def __str__(self) -> str:
        return shlex.join(self.words)


class ServiceManager(ABC):
    """The service manager of one user."""

    program: str
    """What it is driven by."""
    suffix: str
    """Of its files' names."""

    def __init__(self, user: User) -> None:
        self.user = user

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where its files lie."""

    def file(self, name: str) -> Path:
        return self.folder / f"{name}{self.suffix}"

    @abstractmethod
    def text(self, job: Job) -> bytes:
        """The file of a service. Raises UsageError for what cannot be said in one."""

    @abstractmethod
    def target(self, data: bytes) -> str:
        """The target of the service whose file this is; empty when it is none of ours."""

    @abstractmethod
    def links(self, name: str) -> list[Path]:
        """What else the manager may have made for a service, to be removed with its file."""

    @abstractmethod
    def starting(self, name: str, *, known: bool, changed: bool) -> list[Command]:
        """What makes it run now and at each login. `known`: it had a file before; `changed`: that was another one."""

    @abstractmethod
    def stopping(self, name: str) -> list[Command]:
        """What ends it, before its file is removed."""

    @abstractmethod
    def forgetting(self, name: str) -> list[Command]:
        """What is due after its file was removed."""

    @abstractmethod
    def advice(self, name: str) -> list[str]:
        """What a person may want to know next, a sentence each."""

    @abstractmethod
    def question(self, name: str = "") -> tuple[str, ...]:
        """The words that ask for the state of a service, or whether the manager is there at all."""

    @abstractmethod
    def state(self, name: str) -> dict[str, Any]:
        """`state`, `enabled`, `pid`, `restarts`, `status` of a service, as far as the manager tells."""

    def absent(self) -> str:
        """Why the manager cannot be asked; empty when it can."""
        if shutil.which(self.program, path=self.user.environment.get("PATH")) is None:
            return f"there is no program {self.program}"
        try:
            done = self.ask(self.question())
        except (OSError, subprocess.TimeoutExpired) as error:
            return clean(str(error))
        return "" if done.returncode == 0 else _last_line(done) or f"{self.program} failed"

    def ask(self, words: tuple[str, ...], *, seconds: float = ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run one of its programs to the end. Raises OSError, subprocess.TimeoutExpired."""
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=seconds, **self.user.process_arguments(),
        )

    def run(self, command: Command) -> None:
        """Run a command of its. Raises BridgeError when it fails and may not."""
        try:
            done = self.ask(command.words, seconds=START_SECONDS)
            why = _last_line(done) if done.returncode else ""
            failed = done.returncode != 0
        except (OSError, subprocess.TimeoutExpired) as error:
            why, failed = str(error), True
        if failed and not command.may_fail:
            raise BridgeError(f"`{command}` failed.", why, "See `netbridge service status`.")


def service_manager(user: User) -> ServiceManager:
    """The one of this system. Raises TargetLacksError."""
    if sys.platform == "darwin":
        from .launchd import Launchd

        return Launchd(user)
    if sys.platform == "linux":
        from .systemd import Systemd

        return Systemd(user)
    raise TargetLacksError(
        "Services are not made on this system.", f"This is {sys.platform}; systemd and launchd are known.",
        "Let its own service manager run `netbridge up TARGET --gui false`.",
    )


def unsayable(job: Job) -> UsageError:
    """The failure for bytes that are no text."""
    return UsageError(
        f"The service for {clean(job.target)} cannot be written.", "A path or an option holds bytes that are no UTF-8.",
        "Name it otherwise.",
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return clean(lines[-1].strip()) if lines else ""
