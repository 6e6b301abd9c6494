"""The agent's start: descriptors out of harm's way, the marker, `hello`, and the loop until the end.

Standard output is the link, so it is moved to another number at once and descriptor 1 becomes standard error: whatever
prints by accident goes to the session's log and not into the stream.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
from typing import Dict, List, Tuple

from . import facts, resolvconf, rules
from .front import complain, split
from .handover import by_sudo, take
from .holder import Holder
from .loop import Loop
from .netlink import Netlink
from .stream import Stream

GOODBYE = 1.0
"""Seconds the last message may take to leave."""


def _take_descriptors(word: str) -> Tuple[int, int]:
    """(link in, link out), both above 2; 0 is /dev/null and 1 is standard error from here on."""
    if word:
        reading, writing = take(word)
    else:
        reading = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
        writing = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        os.dup2(null, 1)
        os.dup2(null, 2)
    if null > 2:
        os.close(null)
    return reading, writing


def _more_descriptors() -> None:
    """The stub uses a few descriptors a query; take what the hard limit allows, up to 4,096."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(sources: Dict[str, str], arguments: List[str]) -> int:
    """Run the agent; the exit status. The arguments, all there but the last:

    the marker, the text of SSH_CONNECTION, the first stage's own text when sudo is needed (else empty), and the word
    under which the caller of sudo hands over its standard input and output.
    """
    try:
        return _start(sources, arguments)
    except OSError as error:
        complain(error)
        return 1


def _start(sources: Dict[str, str], arguments: List[str]) -> int:
    marker, connection, stage = arguments[:3]
    if stage:
        return by_sudo(sources, stage, [marker, connection, ""])
    reading, writing = _take_descriptors(arguments[3] if len(arguments) > 3 else "")
    os.chdir("/")
    _more_descriptors()

    def keep_out() -> None:
        os.close(reading)
        os.close(writing)

    return split(lambda front: _serve(front, reading, writing, marker, connection), keep_out)


def _serve(front: socket.socket, reading: int, writing: int, marker: str, connection: str) -> int:
    """The life of the process behind the front; its exit status."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write("netbridge-agent")
    os.write(writing, ("%sagent\n" % marker).encode())
    with contextlib.suppress(OSError):
        resolvconf.heal_leftover()  # of a run that was cut off
    loop = Loop()
    netlink = Netlink()
    with contextlib.suppress(OSError):
        rules.heal(netlink)
    holder = Holder(loop, netlink, connection, reading, front)
    loop.on_signals((signal.SIGTERM, signal.SIGHUP, signal.SIGINT), loop.stop)
    stream = holder.tether.stream = Stream(loop, reading, writing, holder.control, holder.tether.lost)
    try:
        stream.send_control(facts.hello(netlink, connection))
        loop.run()
    except Exception as error:  # told as long as somebody reads our standard error
        complain(error)
        holder.tether.status = 1
    finally:
        holder.undo()
        stream.drain(GOODBYE)
        holder.tether.leave()
    return holder.tether.status
