"""The folder in which running bridges are found, and the numbers they hold.

One folder for each user, mode 0700: `$XDG_RUNTIME_DIR/netbridge`, `/run/user/UID/netbridge` or, without either,
`netbridge-UID` under the temporary folder; for a root that is nobody's sudo `/run/netbridge`. Under sudo it is the
folder of the user who called sudo, so that `netbridge status` needs no sudo. NETBRIDGE_RUNTIME_DIR overrules it.

A bridge holds a number N: `N.lock` is locked (flock) as long as its process lives and `N.sock` is its control
socket. The kernel drops the lock with the process, also by SIGKILL, so a lock that can be taken marks the remains of
a dead bridge, and whoever looks next removes them. N is also the third octet of the bridge's own network
198.18.N.0/30 (RFC 2544's benchmarking range, which no real network uses), hence no two bridges of a user collide.

The folder may lie below a world-writable one and we may be root, so it is opened once without following links, its
owner and mode are checked on the descriptor, and files in it are reached through that descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .agent.peers import peer_uid
from .errors import BridgeError, NotPermittedError
from .shortage import todo
from .user import helper_user

NUMBERS = 256
"""N is an octet; so many bridges of one user run at most."""


def open_private(path: str, flags: int) -> int:
    """An opener for files that only the user may read, `open(…, opener=open_private)`; the caller's under sudo.

    In a folder into which others write, what they may have put in the way is refused: a link (root would empty what it
    leads to, and give it away), a file of theirs (they go on reading it) or one with a second name, a pipe that nobody
    reads.
    """
    user = helper_user()
    trusted = {0, os.geteuid(), user.uid}
    shared = _others_write(os.path.dirname(path) or ".", trusted)
    careful = os.O_NOFOLLOW | os.O_NONBLOCK if shared else 0
    try:
        descriptor = os.open(path, flags & ~os.O_TRUNC | careful | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if shared and error.errno == errno.ELOOP:
            raise PermissionError(errno.EPERM, "It is a link in a folder into which others write", path) from None
        raise
    try:
        state = os.fstat(descriptor)
        ordinary = stat.S_ISREG(state.st_mode)
        if shared and (state.st_uid not in trusted or (ordinary and state.st_nlink != 1)):
            raise PermissionError(errno.EPERM, "It may be someone else's, in a folder into which others write", path)
        if shared:
            os.set_blocking(descriptor, True)
        if ordinary and flags & os.O_TRUNC:
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
        if ordinary and user.differs:
            os.fchown(descriptor, user.uid, user.gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _others_write(folder: str, trusted: set[int]) -> bool:
    """Whether somebody besides root and us can put files there."""
    state = os.stat(folder)
    return state.st_uid not in trusted or bool(state.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def place(environment: Mapping[str, str], *, owner: int) -> Path:
    """Where the folder of the user `owner`, whose environment this is, lies."""
    if override := environment.get("NETBRIDGE_RUNTIME_DIR"):
        return Path(override)
    if owner == 0:
        return Path("/run/netbridge")
    if session := environment.get("XDG_RUNTIME_DIR"):
        return Path(session, "netbridge")
    if os.path.isdir(session := f"/run/user/{owner}"):
        return Path(session, "netbridge")
    return Path(tempfile.gettempdir(), f"netbridge-{owner}")


def own_folder() -> Folder:
    """The folder for a new bridge, made where it is missing. Raises BridgeError."""
    user = helper_user()
    return Folder(place(user.environment, owner=user.uid), owner=user.uid, group=user.gid)


def folders() -> list[Folder]:
    """The folders in which bridges of ours may be, as far as they exist; under sudo also root's own. Close them."""
    user = helper_user()
    paths = {place(user.environment, owner=user.uid): user.uid}
    if user.differs:
        paths.setdefault(place(os.environ, owner=0), 0)
    return [Folder(path, owner=owner, group=user.gid) for path, owner in paths.items() if path.is_dir()]


class Folder:
    """An open runtime folder. Close it (or use it as a context manager)."""

    def __init__(self, path: Path, *, owner: int, group: int = -1) -> None:
        """Create it where needed, owned by `owner`. Raises NotPermittedError, BridgeError."""
        self.path = path
        self.owner = owner
        self._group = group
        try:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._guard()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def _unusable(self, error: OSError) -> BridgeError:
        """What it means that the system refuses something about the folder."""
        what = f"The folder of running bridges, {self.path}, cannot be used."
        kind = NotPermittedError if isinstance(error, PermissionError) else BridgeError
        return kind(what, f"{error.strerror}.", todo(error, "Set NETBRIDGE_RUNTIME_DIR to a folder of your own."))

    def _guard(self) -> None:
        state = os.fstat(self.descriptor)
        me = os.geteuid()
        if state.st_uid not in {me, self.owner}:
            raise NotPermittedError(
                f"The folder of running bridges, {self.path}, belongs to user {state.st_uid}.",
                "A control socket there could be replaced by someone else.",
                "Remove it, or set NETBRIDGE_RUNTIME_DIR to a folder of your own.",
            )
        if state.st_uid == me and stat.S_IMODE(state.st_mode) != 0o700:
            os.fchmod(self.descriptor, 0o700)
        if me == 0 and state.st_uid != self.owner:
            os.fchown(self.descriptor, self.owner, self._group)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def address(self, name: str) -> str:
        """A file of the folder as a socket address: through the descriptor where the system can (and short)."""
        if sys.platform == "linux":
            return f"/proc/self/fd/{self.descriptor}/{name}"
        return str(self.path / name)

    def check_peer(self, connection: Any) -> None:
        """Whoever answers at a socket of this folder has to be its owner, ourselves or root. Raises PermissionError."""
        uid = peer_uid(connection)
        if uid is not None and uid not in {0, os.geteuid(), self.owner}:
            raise PermissionError(errno.EPERM, f"user {uid} answers there, who is neither root nor this folder's owner")

    def give(self, name: str, mode: int) -> None:
        """Set mode and owner of a file of ours."""
        os.chmod(name, mode, dir_fd=self.descriptor)
        if os.geteuid() == 0 and self.owner != 0:
            os.chown(name, self.owner, self._group, dir_fd=self.descriptor, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Remove a file of ours. One that stays (the disk fails) is taken for a dead bridge's by whoever looks next."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)

    def reserve(self, fits: Callable[[int], bool] = lambda number: True) -> Reservation:
        """Hold the smallest free number that fits. Raises BridgeError when all are taken."""
        try:
            for number in filter(fits, range(NUMBERS)):
                if lock := self._lock(number, create=True):
                    return lock
        except OSError as error:
            raise self._unusable(error) from error
        raise BridgeError(
            "No number is free for another bridge.", f"All of 198.18.0.0/30 to 198.18.{NUMBERS - 1}.0/30 are in use.",
            "Stop bridges that are not needed (`netbridge down --all`).",
        )

    def running(self) -> list[int]:
        """The numbers of living bridges; the remains of dead ones are removed on the way. Raises BridgeError."""
        found = []
        try:
            for number in self._numbers():
                if lock := self._lock(number, create=False):
                    lock.release()
                elif os.path.exists(self.address(f"{number}.sock")):  # without: it has the number but no socket yet
                    found.append(number)
        except OSError as error:
            raise self._unusable(error) from error
        return found

    def _numbers(self) -> Iterator[int]:
        names = {name.partition(".")[0] for name in os.listdir(self.descriptor) if name.endswith((".lock", ".sock"))}
        yield from sorted(int(name) for name in names if name.isdecimal() and int(name) < NUMBERS)

    def _lock(self, number: int, *, create: bool) -> Reservation | None:
        """Take N.lock; None when a living process has it. The file may be unlinked while we wait: then try anew."""
        name = f"{number}.lock"
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT
        while True:
            descriptor = os.open(name, flags, 0o600, dir_fd=self.descriptor)
            held = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
                current = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                if os.path.samestat(current, os.fstat(descriptor)):
                    self.remove(f"{number}.sock")  # of a dead bridge
                    if create:
                        self.give(name, 0o600)
                    return Reservation(number, self, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                if held:
                    self.remove(name)
                os.close(descriptor)
                raise
            os.close(descriptor)


@dataclass(slots=True)
class Reservation:
    """A number held until `release` or the end of the process."""

    number: int
    folder: Folder
    descriptor: int
    further: Reservation | None = None
    """Another number held with this one, when the number of the socket cannot be that of the network."""

    @property
    def socket_name(self) -> str:
        return f"{self.number}.sock"

    def release(self) -> None:
        """Give the number back and remove what belongs to it. Idempotent."""
        if self.further:
            self.further.release()
        if self.descriptor >= 0:
            self.folder.remove(self.socket_name)
            self.folder.remove(f"{self.number}.lock")  # before the lock goes, so nobody locks a name that vanishes
            os.close(self.descriptor)
            self.descriptor = -1
