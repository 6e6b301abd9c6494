"""Whose helpers these are: under sudo, programs such as ssh and gh run as the person who typed `sudo`.

Root has no SSH keys, no agent, no gh login and no proxy variables; the person has. sudo tells who that is in
SUDO_UID and SUDO_GID, but drops most of the environment. It is still there in the sudo process above us: the kernel
shows in /proc/PID/environ what a process was started with, and sudo was started with the person's own environment.
So helpers get exactly the environment they would have had without sudo; where /proc does not tell (another kernel,
a hidden process) it is made from the user database and what sudo left over.

Root itself is only what root's work takes: `step_down` makes this whole process that person, for good, as soon as that
work (a sandbox's namespaces, a TUN of this machine, a port below 1024) is done, and at once where there is none. doas
and pkexec tell who called them as well; su and a login as root do not, and then root is the person.
"""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import notify

_FARTHEST_ANCESTOR = 32
"""How far above us a sudo is looked for; a guard against a lying /proc."""
_NOT_THE_PERSONS = (
    "SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_PS1", "DOAS_USER", "PKEXEC_UID", "MAIL",
    *notify.VARIABLES,
)
_WAYS = ("sudo", "doas", "pkexec")
"""Programs that make root of a person, as their processes are called."""


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
    environment: Mapping[str, str] = field(repr=False)
    """What the user's own programs are started with."""
    differs: bool
    """False: this process was that user when it was asked, nothing need be changed."""
    told: bool = False
    """The environment is the one that sudo was started with, not one that was made up."""

    @property
    def is_another(self) -> bool:
        """This process is not that user, and can be: until it has stepped down."""
        return self.differs and os.geteuid() != self.uid

    def process_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess.Popen` that make its child this user's."""
        arguments: dict[str, Any] = {"env": dict(self.environment)}
        if self.is_another:
            arguments.update(user=self.uid, group=self.gid, extra_groups=list(self.groups))
        return arguments


def helper_user(environ: Mapping[str, str] | None = None) -> User:
    """The user that helper programs run as: who called sudo when this is root by sudo, else ourselves."""
    environ = os.environ if environ is None else environ
    entry = _sudo_caller(environ)
    if entry is not None:
        of_sudo = _environment_of_sudo()
        return User(
            entry.pw_name,
            entry.pw_uid,
            entry.pw_gid,
            tuple(_groups(entry)),
            Path(entry.pw_dir),
            entry.pw_shell or "/bin/sh",
            caller_environment(entry, environ, of_sudo),
            differs=True,
            told=of_sudo is not None,
        )
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        name, shell = entry.pw_name, environ.get("SHELL") or entry.pw_shell or "/bin/sh"
        home = Path(environ.get("HOME") or entry.pw_dir)
    except KeyError:  # a container may run us as a number that no one named
        name, shell, home = str(uid), environ.get("SHELL", "/bin/sh"), Path(environ.get("HOME", "/"))
    return User(name, uid, os.getegid(), tuple(os.getgroups()), home, shell, dict(environ), differs=False)


def caller_environment(
    entry: pwd.struct_passwd, environ: Mapping[str, str], of_sudo: Mapping[str, str] | None,
) -> dict[str, str]:
    """The environment of the user who called sudo; `of_sudo`: what sudo itself was started with, if that is known."""
    found = of_sudo or {}
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
        if name := environ.get("DOAS_USER"):
            entry = pwd.getpwnam(name)
        else:
            entry = pwd.getpwuid(int(environ.get("SUDO_UID") or environ.get("PKEXEC_UID", "")))
    except (ValueError, KeyError, OverflowError):
        return None
    return entry if entry.pw_uid > 0 else None


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
            if name in _WAYS:
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
    if not user.is_another:
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


NEEDED = ("netbridge", "json", "cyclopts", "asyncssh")
"""Modules whose folders hold everything that is imported later."""


def step_down() -> str:
    """Be the person who called sudo from here on, wholly and for good: nothing brings root back. Without sudo nothing
    happens. Where that person may not read this program, which is loaded piece by piece, root stays; gives the reason.
    """
    user = helper_user()
    if not user.is_another:
        return ""
    with in_person(user):
        if hidden := _hidden():
            return f"{user.name} may not read {hidden}"
    kept = {name: os.environ[name] for name in notify.VARIABLES if name in os.environ}
    os.environ.clear()
    os.environ.update({**user.environment, **kept})
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    return ""


def _hidden() -> str:
    """What of this program the effective user may not use; empty: nothing."""
    if not os.access(sys.executable, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return sys.executable
    for name in NEEDED:
        try:
            found = importlib.util.find_spec(name)
            if found is not None and found.has_location and found.origin:
                os.close(os.open(found.origin, os.O_RDONLY | os.O_CLOEXEC))
                os.listdir(os.path.dirname(found.origin))
        except OSError as error:
            return str(error.filename)
    return ""
