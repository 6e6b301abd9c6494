"""What carries the connection to the session, and where it comes from next.

While everything is captured, a connection made anew might be captured itself, and then could never come to be: an SSH
client that comes from another address is answered into the TUN, and a relay beside sshd (as in a codespace, where it
hands the connection in over loopback) reaches out through the TUN to another public address. So while there is no
connection, the sockets of this namespace are looked at, and these peers are left out of what is captured:

- whoever knocks at the port of the SSH server that the last connection came by;
- whoever the process reaches out to that handed that connection in from here;
- whoever a socket talks to that belongs to no process to be seen from here: a relay outside of this container. Twice in
  a row, that is: the process of a short connect may have ended between the look at sockets and that at processes.

A relay's try that began before it was seen has the TUN's address for its source and would fail after two minutes of the
kernel's patience; it is ended, so that the next one begins.
"""

from __future__ import annotations

import contextlib
from typing import Callable, List, Optional, Set

from . import sockdiag
from .loop import Loop, Timer
from .netlink import Address
from .sockets import ESTABLISHED, SYN_RECV, SYN_SENT, Socket, owned, processes, sockets

EVERY = 0.5
"""Seconds between two looks; a kernel repeats an unanswered SYN, and its own answer to one, after a second."""
MOST = 64
"""Addresses that are remembered, the last ones."""


class Carrier:
    """The ways a connection may come in."""

    def __init__(self, loop: Loop, connection: str, found: Callable[[], None]) -> None:
        """`connection`: the text of SSH_CONNECTION; `found` is called when `addresses` has grown."""
        self._loop = loop
        self._found = found
        self._port = 0
        self._process = 0
        self._timer: Optional[Timer] = None
        self._nobodys: Set[int] = set()
        """The inodes of sockets that belonged to no process at the last look."""
        self.addresses: List[str] = []
        """Whom to leave alone."""
        self.own: List[Address] = []
        """The TUN's addresses."""
        self.away = False
        """There is no connection now."""
        self._look_behind(connection)

    def cut(self) -> None:
        """The connection is gone: look who comes."""
        self.away = True
        self._nobodys = set()
        self._look()

    def tied(self, connection: str) -> None:
        """There is another."""
        self.close()
        alive = {str(each.remote) for each in sockets("tcp", "tcp6") if each.state == ESTABLISHED}
        self.addresses = [text for text in self.addresses if text in alive]
        self._look_behind(connection)

    def close(self) -> None:
        """Look no more."""
        self.away = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_behind(self, connection: str) -> None:
        """Which port the connection came by, and which process it was if it was one of this place."""
        words = connection.split()
        if len(words) != 4 or not (words[1].isdecimal() and words[3].isdecimal()):
            return
        self._port, port = int(words[3]), int(words[1])
        self._process = 0
        for each in sockets("tcp", "tcp6"):
            if (each.local_port, each.remote_port) == (port, self._port) and each.inode:  # the client's end is here
                self._process = next((process for process in processes() if each.inode in owned(process)), 0)

    def _look(self) -> None:
        self._timer = self._loop.call_later(EVERY, self._look)
        found = list(self.addresses)
        carriers = self._carriers()
        for each in carriers:
            text = str(each.remote)
            if text not in found and not each.remote.is_loopback:
                found.append(text)
        if found != self.addresses:
            self.addresses = found[-MOST:]
            self._found()
        for each in carriers:
            if each.state == SYN_SENT and each.local in self.own:
                with contextlib.suppress(OSError):  # a kernel that cannot do that
                    sockdiag.destroy(each)

    def _carriers(self) -> List[Socket]:
        listed = [each for each in sockets("tcp", "tcp6") if each.state in (ESTABLISHED, SYN_SENT, SYN_RECV)]
        knocking = [each for each in listed if self._port and each.local_port == self._port]
        reaching = [each for each in listed if each.state == SYN_SENT]
        mine = owned(self._process) if self._process else set()
        known: Set[int] = set()
        if any(each.inode not in mine for each in reaching):
            known = set().union(*(owned(process) for process in processes()))
        before = self._nobodys
        self._nobodys = {each.inode for each in reaching if each.inode and each.inode not in known} - mine
        return [*knocking, *(each for each in reaching if each.inode in mine or each.inode in before & self._nobodys)]
