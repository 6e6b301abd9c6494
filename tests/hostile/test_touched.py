"""What a real `netbridge up` touches while its agent is hostile, as strace sees it: nothing that it does not need.

Every connect, every program started, every file made, opened for writing, renamed or removed. And on this machine's
loopback listens who may never be reached.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kinds import KINDS as ALL
from .trial import attempt

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="the program strace is missing")

CALLS = (
    "connect,sendto,execve,execveat,open,openat,openat2,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,"
    "symlink,symlinkat,link,linkat,truncate,chmod,chown,mknod,mknodat"
)
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")
CALL = re.compile(r"^(\w+)\((.*)\) += (\S+)")
ASKED = ("busctl", "resolvectl", "ip")
"""Programs that a bridge may ask about this machine's own network."""
DEVICES = ("/dev/null", "/dev/tty", "/dev/ptmx", "/proc/self/", "/sys/fs/cgroup")
KINDS = ["beyond-the-policy", "escapes", "mutated"]
if os.environ.get("NETBRIDGE_TEST_LONG"):
    KINDS = [name for name, kind in ALL.items() if not kind.slow]
RESOLVER = re.compile(r"^nameserver\s+(\S+)", re.MULTILINE)


class Canary:
    """Listeners on this machine's loopback, for TCP and UDP, that hear whether anybody comes."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.tcp.getsockname()[1]
        self.sockets = [self.tcp]
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                if (family, kind) == (socket.AF_INET, socket.SOCK_STREAM):
                    continue
                made = socket.socket(family, kind)
                try:
                    made.bind((address, self.port))
                except OSError:
                    made.close()
                    continue
                if kind == socket.SOCK_STREAM:
                    made.listen()
                self.sockets.append(made)
        for each in self.sockets:
            each.setblocking(False)

    def touched(self) -> list[str]:
        """Who came."""
        found = []
        for each in self.sockets:
            try:
                found.append(str(each.accept() if each.type == socket.SOCK_STREAM else each.recvfrom(100)))
            except BlockingIOError:
                continue
        return found


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    for each in made.sockets:
        each.close()


@pytest.mark.parametrize("name", KINDS)
def test_nothing_else_is_touched(name: str, tmp_path: Path, canary: Canary) -> None:
    prefix = ("strace", "-f", "-ff", "-qq", "-s", "300", "-o", str(tmp_path / "calls"), "-e", f"trace={CALLS}")
    outcome = attempt(name, seconds=0.5, canary=canary.port, prefix=prefix)
    assert not outcome.faults(), "\n".join(outcome.faults())
    assert canary.touched() == []
    calls = [
        (called[1], called[2])
        for path in tmp_path.glob("calls.*") for called in _calls(path.read_text("utf-8", "replace"))
    ]
    assert calls, "strace saw nothing"
    wrong = [f"{name}({arguments})" for name, arguments in calls if not _needed(name, arguments)]
    assert not wrong, "\n".join(wrong)
    assert any(name == "execve" and "tests.hostile.agent" in arguments for name, arguments in calls)


def _calls(text: str) -> list[re.Match[str]]:
    """What the bridge called: a process is the agent from where it became that program."""
    found = []
    for line in text.splitlines():
        called = CALL.match(line)
        if called and not called[3].startswith("-"):
            found.append(called)
            became = called[2] if called[1] == "execve" else ""
            if "tests.hostile.agent" in became and "tests.hostile.watched" not in became:
                break
    return found


def _needed(name: str, arguments: str) -> bool:
    """Whether a bridge has to do this, whoever its agent is."""
    if name in {"connect", "sendto"}:
        # sendto without an address is a send; unix sockets and netlink do not leave this machine's kernel
        if "AF_UNIX" in arguments or "AF_NETLINK" in arguments or not re.search(r"sin6?_port", arguments):
            return True
        return "htons(53)" in arguments and any(f'"{address}"' in arguments for address in _nameservers())
    if name.startswith("exec"):
        program = arguments.partition(",")[0].strip('"').rpartition("/")[2]
        return "tests.hostile" in arguments or program in ASKED
    paths = re.findall(r'"([^"]*)"', arguments)
    if name.startswith("open") and not WRITES.search(arguments):
        return True
    return all(_ours(path) for path in paths)


def _nameservers() -> list[str]:
    """Whom this machine asks for names: so may the codespace, by way of the bridge."""
    with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
        return RESOLVER.findall(file.read())


def _ours(path: str) -> bool:
    """A file of the trial's own folder (the runtime folder, and the figures), or a device."""
    if path.startswith(DEVICES):
        return True
    return "netbridge-hostile-" in path or re.fullmatch(r"\d+\.(lock|sock)", path) is not None
