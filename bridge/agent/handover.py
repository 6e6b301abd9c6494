"""Getting root without sudo in the way of the bytes.

sudo, with `use_pty` (its default since 1.9.14, and Ubuntu's setting before), relays its command's stdin and stdout
through a process of its own, which costs as much as the agent itself. So an agent that is not root yet starts a second
one by sudo, gives it the code on sudo's stdin, and then its own standard input and output over a unix socket
(SCM_RIGHTS, unix(7)). From then on it does nothing but wait, because the SSH server takes its end for the command's
end.

The socket has an abstract name of this start alone. It is no secret, since /proc/net/unix tells it to everybody: each
side checks who the other is (SO_PEERCRED).
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from typing import Dict, List, Tuple

from .peers import peer_uid

ACCEPT_TRIES = 100
ACCEPT_EVERY = 0.2
"""Seconds between looks at whether sudo still runs, while the second agent is awaited."""


def by_sudo(sources: Dict[str, str], stage: str, arguments: List[str]) -> int:
    """Start the same code by sudo and hand it descriptors 0 and 1; its exit status. `stage`: the first stage's text."""
    code = zlib.compress(json.dumps(sources).encode(), 1)
    word = os.urandom(16).hex()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0netbridge-" + word)
        listener.listen(1)
        listener.settimeout(ACCEPT_EVERY)
        command = ["sudo", "-n", "--", sys.executable, "-I", "-S", "-B", "-c", stage, str(len(code)), *arguments, word]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2)
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin as pipe:
            pipe.write(code)
        for _ in range(ACCEPT_TRIES):
            with contextlib.suppress(socket.timeout):
                connection, _address = listener.accept()
                with connection:
                    if peer_uid(connection) == 0:
                        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))]
                        connection.sendmsg([b"1"], rights)
                        break
            if process.poll() is not None:
                break
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return process.wait()


def take(word: str) -> Tuple[int, int]:
    """In the agent that sudo started: (standard input, standard output) of the one that called it. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ACCEPT_TRIES * ACCEPT_EVERY)
        connection.connect("\0netbridge-" + word)
        if str(peer_uid(connection)) != os.environ.get("SUDO_UID"):
            raise PermissionError("the other end is not who called sudo")
        size = 2 * struct.calcsize("i")
        _data, messages, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(size))
        descriptors = array.array("i")
        for level, kind, data in messages:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[:size])
        if len(descriptors) != 2:
            raise OSError("no descriptors came")
        return descriptors[0], descriptors[1]
