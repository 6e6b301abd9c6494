"""The guardian: a process that does nothing but wait for the holder's end and then put back resolv.conf, and the rules
for container networks.

It holds the reading end of a pipe whose writing end only the holder has, so it learns of the holder's death however
that came, SIGKILL included. It keeps no other descriptor: neither the TUN (which would live on) nor the channel
(whose end the SSH server would wait for). It has its own session and ignores what a hangup sends, so it outlives the
holder's group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from . import privileges, resolvconf, rules
from .netlink import Netlink

PATIENCE = 5.0
"""Seconds the kernel may take to remove a TUN with its routes, after which nobody uses our rules."""


class Guardian:
    """The holder's handle on its guardian."""

    def __init__(self, path: str = resolvconf.PATH) -> None:
        """Fork, and wait until it is out of reach of our own end. Raises OSError when there are too many processes."""
        reading, self._writing = os.pipe()
        hearing, saying = os.pipe()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _guard(reading, saying, path)
        finally:
            os.close(reading)
            os.close(saying)
        with open(hearing, "rb", 0) as ready:
            if not ready.read(1):
                self.dismiss()
                raise OSError("the guardian process did not start")

    def dismiss(self) -> None:
        """The holder has undone everything; the guardian looks once more and ends."""
        os.close(self._writing)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _guard(reading: int, saying: int, path: str) -> None:
    """The child's life; never returns."""
    try:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.write(saying, b"1")
        os.dup2(reading, 3)
        os.closerange(4, 1 << 16)
        with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
            name.write("netbridge-guard")
        privileges.keep((*privileges.TUN, *privileges.for_resolv_conf(path)))
        while os.read(3, 64):
            pass
        resolvconf.heal(path)
        _heal_rules()
        os._exit(0)
    except BaseException:
        os._exit(1)


def _heal_rules() -> None:
    netlink = Netlink()
    deadline = time.monotonic() + PATIENCE
    while rules.rules(netlink) and not rules.heal(netlink) and time.monotonic() < deadline:
        time.sleep(0.05)
