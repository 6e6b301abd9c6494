"""Whose helpers these are: under sudo, programs such as ssh and gh run as the person who typed `sudo`.

Root has no SSH keys, no agent, no gh login and no proxy variables; the person has. sudo tells who that is in
SUDO_UID and SUDO_GID, but drops most of the environment. It is still there in the sudo process above us: the kernel
shows in /proc/PID/environ what a process was started with, and sudo was started with the person's own environment.
So helpers get exactly the environment they would have had without sudo; where /proc does not tell (another kernel,
a hidden process) it is made from the user database and what sudo left over.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import notify

_FARTHEST_ANCESTOR = 32
"""How far above us a sudo is looked for; a guard against a lying /proc."""
_NOT_THE_PERSONS = ("SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_PS1", "MAIL", *notify.VARIABLES)


@dataclass(frozen=True, slots=True)
class User:
    """A user that helper programs run as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups."""
    home: Path
    shell: str
    environment: Mapping[str, str]
    """What the user's own programs are started with."""
    differs: bool
    """False: this process already is that user, nothing need be changed."""

    def process_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess.Popen` that make its child this user's."""
        arguments: dict[str, Any] = {"env": dict(self.environment)}
        if self.differs:
            arguments.update(user=self.uid, group=self.gid, extra_groups=list(self.groups))
        return arguments


def helper_user(environ: Mapping[str, str] | None = None) -> User:
    """The user that helper programs run as: who called sudo when this is root by sudo, else ourselves."""
    environ = os.environ if environ is None else environ
    entry = _sudo_caller(environ)
    if entry is not None:
        return User(
            entry.pw_name,
            entry.pw_uid,
            entry.pw_gid,
            tuple(_groups(entry)),
            Path(entry.pw_dir),
            entry.pw_shell or "/bin/sh",
            caller_environment(entry, environ),
            differs=True,
        )
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        name, shell = entry.pw_name, environ.get("SHELL") or entry.pw_shell or "/bin/sh"
        home = Path(environ.get("HOME") or entry.pw_dir)
    except KeyError:  # a container may run us as a number that no one named
        name, shell, home = str(uid), environ.get("SHELL", "/bin/sh"), Path(environ.get("HOME", "/"))
    return User(name, uid, os.getegid(), tuple(os.getgroups()), home, shell, dict(environ), differs=False)


def caller_environment(entry: pwd.struct_passwd, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the user who called sudo."""
    found = _environment_of_sudo() or {}
    # Variables that sudo was told to set or keep (sudo VAR=1 netbridge) count where the person's own do not say
    # otherwise.
    environment = {key: value for key, value in environ.items() if key not in _NOT_THE_PERSONS}
    environment.update((key, value) for key, value in found.items() if key not in _NOT_THE_PERSONS)
    environment.update(
        HOME=found.get("HOME") or entry.pw_dir,
        USER=entry.pw_name,
        LOGNAME=entry.pw_name,
        SHELL=found.get("SHELL") or entry.pw_shell or "/bin/sh",
    )
    runtime = f"/run/user/{entry.pw_uid}"
    if "XDG_RUNTIME_DIR" not in found:
        environment.pop("XDG_RUNTIME_DIR", None)
        if Path(runtime).is_dir():
            environment["XDG_RUNTIME_DIR"] = runtime
    return environment


def _sudo_caller(environ: Mapping[str, str]) -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        uid = int(environ.get("SUDO_UID", ""))
        return pwd.getpwuid(uid) if uid > 0 else None
    except (ValueError, KeyError, OverflowError):
        return None


def _groups(entry: pwd.struct_passwd) -> list[int]:
    try:
        return os.getgrouplist(entry.pw_name, entry.pw_gid)
    except OSError:
        return [group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem]


def _environment_of_sudo() -> dict[str, str] | None:
    """What the nearest sudo above this process was started with; None where /proc does not tell."""
    pid = os.getppid()
    for _ in range(_FARTHEST_ANCESTOR):
        if pid <= 1:
            break
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            # The name stands in parentheses and may itself hold any character: the last ")" ends it (proc_pid_stat(5)).
            name = stat[stat.index("(") + 1 : stat.rindex(")")]
            if name == "sudo":
                return parse_environment(Path(f"/proc/{pid}/environ").read_bytes())
            pid = int(stat[stat.rindex(")") + 2 :].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return None


def parse_environment(raw: bytes) -> dict[str, str]:
    """NAME=value strings separated by zero bytes, as in /proc/PID/environ."""
    pairs = (item.partition(b"=") for item in raw.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals and name}


_PERSONAL = ("HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK")


@contextlib.contextmanager
def in_person(user: User) -> Iterator[None]:
    """Be the user for a moment, for a library that reads ~ in this process: never longer than a synchronous call.

    Files are then opened with the user's rights (a home folder on NFS may know no root), and a program that the
    library starts is the user's. The whole process changes, so nothing may await in here. Without a change of user it
    does nothing.
    """
    if not user.differs:
        yield
        return
    saved = {name: os.environ.get(name) for name in _PERSONAL}
    groups = os.getgroups()
    _set_environment({name: user.environment.get(name) for name in _PERSONAL})
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, 0)
    # Real and effective, so that a program started now is wholly the user's; root is saved for the way back.
    os.setresuid(user.uid, user.uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
        _set_environment(saved)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
