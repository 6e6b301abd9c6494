"""The socket at which the local machine's ssh-agent is found here (`up --forward-agent`).

Its path is always the same, /tmp/netbridge-ssh-UID/agent.sock, so that SSH_AUTH_SOCK can stand in a profile and shells
that were there before find the next bridge's. Folder (0700) and socket (0600) belong to the user who logged in, and
everything is done as that user: /tmp is everybody's, and root must not follow what others put there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Iterator, Tuple

from .peers import peer_uid

FOLDER = "/tmp/netbridge-ssh-%d"  # noqa: S108  (whose it is, is looked at before it is used)
NAME = "agent.sock"
BACKLOG = 16


def login_user() -> Tuple[int, int]:
    """(uid, gid) of who logged in: sudo's caller, else the process's own."""
    try:
        return int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    except (KeyError, ValueError):
        return os.getuid(), os.getgid()


@contextlib.contextmanager
def _being(uid: int, gid: int) -> Iterator[None]:
    """Files are the user's within, and so is the right to them."""
    if uid == os.geteuid():
        yield
        return
    own_group, own = os.getegid(), os.geteuid()
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)
        os.setegid(own_group)


def remember_user() -> None:
    """Have the user as the saved one besides, so that the socket can be removed as that user when the right to become
    anybody has been given up.
    """
    uid, gid = login_user()
    if uid != os.geteuid():
        os.setresgid(-1, -1, gid)
        os.setresuid(-1, -1, uid)


class AuthSocket:
    """A listening socket of that user's."""

    def __init__(self, folder: str = "") -> None:
        """Listen. Raises OSError, whose `strerror` says why it cannot be; what a killed agent left is replaced."""
        self._user = login_user()
        self._folder = folder or FOLDER % self._user[0]
        self.path = os.path.join(self._folder, NAME)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            with _being(*self._user):
                self._own_folder()
                self._make_room()
                self.listener.bind(self.path)
                self.listener.listen(BACKLOG)
        except BaseException:
            self.listener.close()
            raise
        finally:
            os.umask(before)

    def _own_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        state = os.lstat(self._folder)
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != self._user[0]:
            raise PermissionError(1, "%s is somebody else's" % self._folder)
        os.chmod(self._folder, 0o700)

    def _make_room(self) -> None:
        """Remove a socket that nobody listens at any more."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise FileExistsError(17, "%s is no socket" % self.path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asking:
                try:
                    asking.connect(self.path)
                except ConnectionRefusedError:
                    os.unlink(self.path)
                    return
                except BlockingIOError:
                    pass
            raise FileExistsError(17, "another bridge serves %s" % self.path)

    def admits(self, client: socket.socket) -> bool:
        """Whether it is that user, or root, who may become anybody."""
        return peer_uid(client) in (0, self._user[0])

    def close(self) -> None:
        """Listen no more, and remove the socket and its folder."""
        self.listener.close()
        with contextlib.suppress(OSError), _being(*self._user):
            os.unlink(self.path)
            os.rmdir(self._folder)
