"""systemd on Linux: a unit of the user's manager, in ~/.config/systemd/user (systemd.unit(5), systemd.service(5))."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from netbridge.bridge.errors import UsageError

from .service_job import Job
from .service_manager import START_SECONDS, Command, ServiceManager, unsayable
from .text import clean

SYSTEMCTL = ("systemctl", "--user")
WANTED_BY = "default.target"
"""What a user's manager starts with."""

UNIT = f"""\
# Written by `netbridge service install`; `netbridge service uninstall` removes it.

[Unit]
Description=netbridge, %N
# Without a network every start fails at once: it is tried for about three hours.
StartLimitIntervalSec=6h
StartLimitBurst=1000

[Service]
Type=notify
NotifyAccess=main
ExecStart=@exec@
@environment@# A codespace may have to be started first.
TimeoutStartSec={START_SECONDS}
# The event loop says that it lives every 15 s.
WatchdogSec=30
Restart=on-failure
RestartSec=10
# Usage, no permission, a target that lacks something: a person has to mend these.
RestartPreventExitStatus=2 4 5
# The bridge ends what it started, ssh last; what is left of it after that is killed.
KillMode=mixed
TimeoutStopSec=10
# NoNewPrivileges, and every sandboxing setting of a user's unit implies it or hides files, would take sudo and other
# set-uid programs from exec: targets and ProxyCommand, and keys, agents and logins from ssh and gh.
UMask=0077
# A core would hold keys.
LimitCORE=0

[Install]
WantedBy={WANTED_BY}

# Ignored by systemd, read by `netbridge service`.
[X-netbridge]
Target=@target@
"""


class Systemd(ServiceManager):
    """The user's own systemd."""

    program = "systemctl"
    suffix = ".service"

    @property
    def folder(self) -> Path:
        return Path(self.user.environment.get("XDG_CONFIG_HOME") or self.user.home / ".config", "systemd", "user")

    def text(self, job: Job) -> bytes:
        if not job.words[0].isprintable() or set(job.words[0]) & set("'\"\\"):  # string_is_safe() in its sources
            raise UsageError(
                f"systemd refuses to run {clean(job.words[0])}.", "The path holds a quote, a backslash or the like.",
                "Install netbridge in another folder.",
            )
        try:
            environment = "".join(
                f"Environment={quoted(f'{name}={value}')}\n" for name, value in job.environment.items()
            )
            parts = {"exec": command_line(job.words), "environment": environment, "target": json.dumps(job.target)}
            return re.sub(r"@([a-z]+)@", lambda match: parts[match[1]], UNIT).encode()
        except UnicodeEncodeError:
            raise unsayable(job) from None

    def target(self, data: bytes) -> str:
        match = re.search(rb'^\[X-netbridge\]\nTarget=(".*")$', data, re.MULTILINE)
        try:
            return str(json.loads(match[1])) if match else ""
        except ValueError:
            return ""

    def links(self, name: str) -> list[Path]:
        return [self.folder / f"{WANTED_BY}.wants" / f"{name}.service"]

    def starting(self, name: str, *, known: bool, changed: bool) -> list[Command]:
        reload = Command((*SYSTEMCTL, "daemon-reload"))
        if known and changed:  # what runs, runs with the old file
            return [reload, Command((*SYSTEMCTL, "enable", f"{name}.service")),
                    Command((*SYSTEMCTL, "restart", f"{name}.service"))]
        return [reload, Command((*SYSTEMCTL, "enable", "--now", f"{name}.service"))]

    def stopping(self, name: str) -> list[Command]:
        return [Command((*SYSTEMCTL, "disable", "--now", f"{name}.service"))]

    def forgetting(self, name: str) -> list[Command]:
        return [Command((*SYSTEMCTL, "daemon-reload")),
                Command((*SYSTEMCTL, "reset-failed", f"{name}.service"), may_fail=True)]

    def advice(self, name: str) -> list[str]:
        return [
            f"So that it runs from boot on, without a login: loginctl enable-linger {self.user.name}",
            f"What it says: journalctl --user --unit {name}.service --follow",
        ]

    def question(self, name: str = "") -> tuple[str, ...]:
        if not name:
            return (*SYSTEMCTL, "show", "--property=Version")
        wanted = "ActiveState,SubState,UnitFileState,MainPID,NRestarts,StatusText,Result"
        return (*SYSTEMCTL, "show", f"--property={wanted}", f"{name}.service")

    def state(self, name: str) -> dict[str, Any]:
        found = dict(line.partition("=")[::2] for line in self.ask(self.question(name)).stdout.splitlines())
        return {
            "state": f"{found.get('ActiveState', '')} ({found.get('SubState', '')})",
            "enabled": found.get("UnitFileState") == "enabled",
            "pid": int(found.get("MainPID") or 0),
            "restarts": int(found.get("NRestarts") or 0),
            "result": found.get("Result", ""),
            "status": found.get("StatusText", ""),
        }


def command_line(words: tuple[str, ...]) -> str:
    """An ExecStart= that runs these words as they are.

    In the first word no variable is looked for when the program is opened, but there is one when the word becomes its
    argv[0]; with `@` the two are written apart (systemd.service(5), "Command lines").
    """
    path, name = quoted(words[0]), quoted(words[0], dollar=True)
    return " ".join([path if path == name else f"@{path} {name}", *(quoted(word, dollar=True) for word in words[1:])])


def quoted(word: str, *, dollar: bool = False) -> str:
    """A word as systemd reads it back (systemd.syntax(7), "Quoting"): specifiers doubled, and `$` where it means one.

    Raises UnicodeEncodeError for what is no text.
    """
    escaped = "".join(_escaped(character, dollar=dollar) for character in word)
    return escaped if re.fullmatch(r"[A-Za-z0-9_./:=@%$,+-]+", escaped) else f'"{escaped}"'


def _escaped(character: str, *, dollar: bool) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character == "%" or (character == "$" and dollar):
        return character * 2
    data = character.encode()
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in data)
