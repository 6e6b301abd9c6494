"""One computer of the test bed: an init process in namespaces of its own, and ways to run programs beside it.

Programs enter through nsenter, which forks: `Program.pid` is the program's own process id as the host sees it. A
program and what it starts in the foreground form a session, so that a timeout ends all of them and leaves no pipe open.
`Machine.inside` runs a Python function in a thread that joined the network namespace; sockets it opens stay there and
serve the whole test process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
NS_GET_PARENT = 0xB702
"""linux/nsfs.h"""
_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0, interval: float = 0.01) -> T:
    """Poll `condition` until it is true and return its value; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)


@dataclass(frozen=True)
class Output:
    """What a program that ended left."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    def check(self) -> Output:
        assert self.code == 0, f"exit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        return self


def text(data: bytes) -> str:
    return data.decode(errors="replace")


def children(pid: int) -> list[int]:
    """The process ids of `pid`'s children."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Program:
    """A program running on a machine."""

    def __init__(self, popen: subprocess.Popen[bytes], argv: Sequence[str]) -> None:
        self.popen = popen
        self.argv = list(argv)

    @property
    def pid(self) -> int:
        """The program's process id, as the host sees it; 0 when it ended."""
        found = children(self.popen.pid)
        while not found and self.popen.poll() is None:
            time.sleep(0.002)
            found = children(self.popen.pid)
        return found[0] if found else 0

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the program itself."""
        if pid := self.pid:
            os.kill(pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """The exit status (minus the signal's number when a signal ended it)."""
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End the program and its session at once."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait(10)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


ROOT = Path(__file__).resolve().parents[2]
"""The project."""


@dataclass
class Machine:
    """One computer.

    `mounts` are shell commands that init runs before anything else, in the new mount namespace.
    """

    name: str
    folder: Path
    """Its files: etc, home and logs."""
    private: Sequence[str] = ("/run", "/dev/shm")
    """Folders that start out empty and are its own."""
    mounts: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)
    init: int = 0
    _keeper: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Start init; `booted` waits for it. The kernel ties init's life to the calling thread: use the main one."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "home").mkdir()
        etc = self.folder / "etc"
        subprocess.run(["cp", "-a", "/etc", etc], check=True)
        resolv = self.folder / "resolv.conf"
        resolv.write_text("")
        (etc / "resolv.conf").unlink(missing_ok=True)
        (etc / "resolv.conf").write_text("")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n")
        nsswitch = etc / "nsswitch.conf"
        lines = nsswitch.read_text().splitlines() if nsswitch.exists() else []
        nsswitch.write_text(
            "\n".join([*(line for line in lines if not line.startswith("hosts:")), "hosts: files dns", ""])
        )
        # The project and its interpreter stay in sight where they stand below such a folder, as in /tmp.
        kept = {needed: self.folder / f"kept{number}" for number, needed in enumerate(self._needed())}
        script = [
            "set -e",
            f"hostname {self.name}",
            "mount -t sysfs sysfs /sys",
            f"mount --bind {etc} /etc",
            f"mount --bind {resolv} /etc/resolv.conf",  # as container engines do it: nobody can rename over it
            *(f"mkdir {hold} && mount --bind {needed} {hold}" for needed, hold in kept.items()),
            *(f"mount -t tmpfs -o mode=1777 tmpfs {path}" for path in self.private),
            *(f"mkdir -p {needed} && mount --move {hold} {needed}" for needed, hold in kept.items()),
            "mkdir -m 755 /run/sshd",
            # its own device node, open to everybody as udev makes it
            "mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200",
            *self.mounts,
            "ip link set lo up",
            "echo booted",
            # a signal that is ignored stays so over exec, and then the kernel reaps orphans by itself
            "exec env --ignore-signal=CHLD sleep infinity >/dev/null",
        ]
        self._keeper = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                "\n".join(script),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )

    def _needed(self) -> list[Path]:
        """What programs here need of the folders that are hidden."""
        hidden = [
            path for path in dict.fromkeys((ROOT, Path(sys.prefix).absolute(), Path(sys.base_prefix).absolute()))
            if any(path.is_relative_to(folder) for folder in self.private)
        ]  # fmt: skip
        return [path for path in hidden if not any(path != other and path.is_relative_to(other) for other in hidden)]

    def booted(self) -> None:
        """Wait until init is up."""
        keeper = self._keeper
        assert keeper is not None and keeper.stdout is not None and keeper.stderr is not None
        if keeper.stdout.readline() != b"booted\n":
            raise RuntimeError(f"{self.name} did not boot: {keeper.stderr.read().decode(errors='replace')}")
        self.init = children(keeper.pid)[0]

    def close(self) -> None:
        """Kill init; the kernel kills the rest and frees the namespaces."""
        keeper = self._keeper
        if keeper is None:
            return
        if self.init:
            try:
                os.kill(self.init, signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            keeper.kill()
        keeper.wait(10)
        for stream in (keeper.stdout, keeper.stderr):
            if stream is not None:
                stream.close()
        for program in self.programs:
            program.kill()
        self.programs.clear()
        self._keeper = None

    # --- programs ------------------------------------------------------------------------------------------------

    def start(
        self,
        *argv: str | Path,
        log: str | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        enter: int | None = None,
    ) -> Program:
        """Start a program. Its output goes to the file `log` of the machine's folder unless told otherwise.

        `enter`: join the namespaces of this process instead of init's (a sandbox on this machine).
        """
        words = [str(word) for word in argv]
        with open(self.folder / (log or "programs.log"), "ab") as sink:
            popen = subprocess.Popen(
                ["nsenter", "-t", str(enter or self.init), "-m", "-n", "-p", "-u", "-i", "-w", "--", *words],
                stdin=stdin,
                stdout=sink if stdout is None else stdout,
                stderr=sink if stderr is None else stderr,
                env={**self._base_environment(), **(environment or {})},
                start_new_session=True,
            )
        program = Program(popen, words)
        self.programs = [known for known in self.programs if known.running]
        self.programs.append(program)
        return program

    def run(
        self,
        *argv: str | Path,
        stdin: bytes | str = b"",
        timeout: float = 30.0,
        environment: Mapping[str, str] | None = None,
        enter: int | None = None,
    ) -> Output:
        """Run a program to its end. Raises TimeoutError, and then the program and its children are gone."""
        begun = time.monotonic()
        program = self.start(
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            environment=environment,
            enter=enter,
        )
        data = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            out, err = program.popen.communicate(data, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(program.popen.pid, signal.SIGKILL)
            out, err = program.popen.communicate(timeout=10)
            what = f"{self.name}: {shlex.join(program.argv)} took more than {timeout:g} s"
            raise TimeoutError(f"{what}\n--- stdout\n{text(out)}\n--- stderr\n{text(err)}") from None
        return Output(program.popen.returncode, text(out), text(err), time.monotonic() - begun)

    def shell(
        self, script: str, *, stdin: bytes | str = b"", timeout: float = 30.0, enter: int | None = None
    ) -> Output:
        """Run a shell script to its end."""
        return self.run("sh", "-c", script, stdin=stdin, timeout=timeout, enter=enter)

    def _base_environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"),
            "USER": "root",
            "LOGNAME": "root",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            **self.environment,
        }

    # --- the network namespace ---------------------------------------------------------------------------------------

    def inside(self, function: Callable[[], T], enter: int | None = None) -> T:
        """Call `function` in a thread that joined the machine's network namespace; sockets opened there stay there."""
        return in_network(enter or self.init, function)

    def connect(self, host: str, port: int, timeout: float = 5.0, enter: int | None = None) -> socket.socket:
        """A TCP connection from this machine to an address."""
        return self.inside(lambda: socket.create_connection((host, port), timeout), enter)

    def listen(self, host: str, port: int = 0) -> socket.socket:
        """A listening TCP socket on this machine, held by the test process."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self.inside(lambda: socket.create_server((host, port), family=family, backlog=512))

    def udp(self, host: str, port: int = 0) -> socket.socket:
        """A bound UDP socket on this machine, held by the test process."""

        def bound() -> socket.socket:
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((host, port))
            return made

        return self.inside(bound)

    def answers(self, host: str, port: int) -> bool:
        """True when a TCP connect from this machine works."""
        try:
            self.connect(host, port, 1.0).close()
        except OSError:
            return False
        return True

    def listens(self, port: int) -> bool:
        """True when something listens on this TCP port."""
        lines = [
            line for name in ("tcp", "tcp6") for line in Path(f"/proc/{self.init}/net/{name}").read_text().splitlines()
        ]
        return any(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in map(str.split, lines))

    def ip(self, *lines: str) -> None:
        """Run `ip` commands as one batch."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n").check()

    # --- what there is to see -----------------------------------------------------------------------------------------

    def processes(self, *, below: bool = False) -> dict[int, str]:
        """Every process of this machine by its host process id, with its command line; init left out.

        `below`: those in PID namespaces below the machine's as well.
        """
        mine = os.stat(f"/proc/{self.init}/ns/pid").st_ino
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.init:
                continue
            try:
                if os.stat(entry / "ns/pid").st_ino != mine and not (below and mine in _outer_namespaces(entry)):
                    continue
                if _status(int(entry.name), "State:")[0] != "Z":
                    found[int(entry.name)] = text((entry / "cmdline").read_bytes().replace(b"\0", b" ")).strip()
            except OSError:
                continue
        return found


def _outer_namespaces(process: Path) -> list[int]:
    """The PID namespaces around the process's own, by inode number, as far out as this program may look.

    Depth alone does not tell one machine's from another's: test runs beside this one have worlds of their own.
    """
    found = []
    namespace = os.open(process / "ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            outer = fcntl.ioctl(namespace, NS_GET_PARENT)
            os.close(namespace)
            namespace = outer
            found.append(os.fstat(outer).st_ino)
    except OSError:  # the one this program runs in has none that it may know
        return found
    finally:
        os.close(namespace)


def _status(pid: int, key: str) -> list[str]:
    """The words of one line of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith(key):
            return line.split()[1:]
    return [""]


def in_network(place: int | str, function: Callable[[], T]) -> T:
    """Call `function` in a thread that joined the network namespace of a process (its id) or of a file (its path).

    What it raises is raised here.
    """
    path = place if isinstance(place, str) else f"/proc/{place}/ns/net"
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
