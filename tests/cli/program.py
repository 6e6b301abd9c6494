"""The real program as a child process, on a terminal or without, in a network namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import netbridge

SOURCE = str(Path(netbridge.__file__).parent.parent)
ADDRESS = "10.88.0.1"
"""This machine's address in its own namespace; captured by default as part of a connected network."""


class Machine:
    """A network namespace with one connected network, in which the program runs."""

    def __init__(self, folder: Path) -> None:
        self.name = f"nbcli{os.getpid()}"
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NETBRIDGE_", "SUDO_"))},
            "PYTHONPATH": SOURCE, "NETBRIDGE_RUNTIME_DIR": str(folder / "run"),
            "NETBRIDGE_CONFIG": "", "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def __enter__(self) -> Machine:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            for words in (
                "link set lo up",
                "link add corp0 type veth peer name corp1",
                f"address add {ADDRESS}/24 dev corp0",
                "link set corp0 up",
                "link set corp1 up",
            ):
                subprocess.run(["ip", "-n", self.name, *words.split()], check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def pids(self) -> list[int]:
        """The processes in this machine's namespace (not those of sandboxes)."""
        found = subprocess.run(["ip", "netns", "pids", self.name], check=True, capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    def words(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, sys.executable, *words]

    def netbridge(self, *words: str, timeout: float = 30.0, **arguments: Any) -> subprocess.CompletedProcess[str]:
        """Run netbridge to its end."""
        return subprocess.run(
            self.words("-m", "netbridge", *words), env=self.environment, cwd=self.folder, check=False,
            timeout=timeout, text=True, errors="replace", stdin=subprocess.DEVNULL, capture_output=True, **arguments,
        )

    @contextlib.contextmanager
    def running(self, *words: str, **arguments: Any) -> Iterator[Program]:
        """Start netbridge; it is ended by force at the end if it has not ended."""
        program = Program(self, words, **arguments)
        try:
            yield program
        finally:
            program.kill()

    def status(self) -> list[dict[str, Any]]:
        answer = self.netbridge("status", "--json")
        assert answer.returncode == 0, answer.stderr
        bridges: list[dict[str, Any]] = json.loads(answer.stdout)["bridges"]
        return bridges

    @contextlib.contextmanager
    def web_server(self) -> Iterator[str]:
        """An HTTP server on ADDRESS that serves `hello`; gives its URL."""
        pages = self.folder / "pages"
        pages.mkdir(exist_ok=True)
        (pages / "index.html").write_text("hello\n")
        server = subprocess.Popen(
            self.words("-u", "-m", "http.server", "0", "--bind", ADDRESS, "--directory", str(pages)),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        assert server.stdout
        try:
            yield server.stdout.readline().split("(")[1].split(")")[0]
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


class Program:
    """One running netbridge. What it says is collected by looking."""

    def __init__(self, machine: Machine, words: Sequence[str], *, terminal: bool = False, stdin: int = -3) -> None:
        self.said = b""
        self._pty, self._slave = pty.openpty() if terminal else (-1, -1)
        if terminal:
            self.settings = termios.tcgetattr(self._slave)
            stdin = self._slave
        self.process = subprocess.Popen(
            machine.words("-m", "netbridge", *words), env=machine.environment, cwd=machine.folder, stdin=stdin,
            stdout=self._slave if terminal else subprocess.PIPE, stderr=self._slave if terminal else subprocess.STDOUT,
            start_new_session=True, preexec_fn=self._own_terminal if terminal else None,  # noqa: PLW1509
        )
        self._out = self._pty if terminal else self.process.stdout.fileno() if self.process.stdout else -1

    def _own_terminal(self) -> None:
        import fcntl

        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

    def until(self, wanted: bytes, timeout: float = 20.0) -> bytes:
        """Read until `wanted` was said; all that was said."""
        deadline = time.monotonic() + timeout
        while wanted not in self.said:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{wanted!r} was not said, but:\n{self.said.decode(errors='replace')}")
        return self.said

    def _read(self, timeout: float) -> bool:
        if not select.select([self._out], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self._out, 65536)
        except OSError:  # EIO: nobody has the terminal any more
            data = b""
        self.said += data
        return bool(data)

    def type(self, keys: bytes) -> None:
        os.write(self._pty, keys)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, timeout: float = 10.0) -> int:
        """The exit status; AssertionError when it goes on."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it still runs:\n{self.said.decode(errors='replace')}")
            self._read(0.05)
        while self._out >= 0 and select.select([self._out], [], [], 0)[0] and self._read(0):
            pass
        return self.process.returncode

    def descendants(self) -> list[tuple[int, bytes]]:
        """Every process below it, wherever it is, with its words."""
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            pid = ancestor = int(name)
            try:
                while ancestor > 1 and ancestor != self.process.pid:
                    ancestor = int(Path(f"/proc/{ancestor}/stat").read_text().rpartition(")")[2].split()[1])
                if ancestor == self.process.pid != pid:
                    found.append((pid, Path(f"/proc/{pid}/cmdline").read_bytes()))
            except OSError:
                continue
        return found

    def terminal_settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    @property
    def blocking(self) -> bool:
        """Whether reads of the terminal wait, for everyone who has it open."""
        return os.get_blocking(self._slave)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        for descriptor in (self._pty, self._slave):
            if descriptor >= 0:
                os.close(descriptor)


def wait_until(condition: Callable[[], object], what: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {timeout:g} s"
        time.sleep(0.05)
