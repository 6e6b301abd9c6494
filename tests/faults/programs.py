"""Calls of running programs that fail: `strace -e inject=` attached to one process, and the kernel's own limits.

What the seam (`seam.py`) cannot see is seen here: uvloop, which does its sockets in C, CPython's own repetition of what
EINTR cut short, and the kernel saying EMFILE, EFBIG and ENOMEM itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path


def why_no_strace() -> str:
    """Why no process can be traced here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is missing: scripts/system-packages test"
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=getppid", "-e", "inject=getppid:error=EPERM", "true"],
        capture_output=True, text=True, timeout=20,
    )
    return f"this kernel or container forbids ptrace: {tried.stderr.strip()}" if tried.returncode else ""


class Injection:
    """Some calls of a process fail while it is open. `failed` counts them."""

    def __init__(self, pid: int, call: str, error: str, when: str, folder: Path) -> None:
        """`when` is strace's: `3` the third, `2+5` the second and each fifth behind it."""
        self._log = folder / f"strace-{time.monotonic_ns()}"
        self._program = subprocess.Popen(
            ["strace", "-f", "-p", str(pid), "-o", str(self._log), "-e", f"trace={call}",
             "-e", f"inject={call}:error={error}:when={when}"],
            stderr=subprocess.PIPE,
        )
        self._await_attached()

    def _await_attached(self) -> None:
        assert self._program.stderr is not None
        said, deadline = b"", time.monotonic() + 20
        while b"attached" not in said:
            ready, _, _ = select.select([self._program.stderr], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self._program.stderr.fileno(), 4096) if ready else b""
            if not data:
                self.close()
                raise AssertionError(f"strace did not attach: {said.decode()}")
            said += data

    @property
    def failed(self) -> int:
        return self._log.read_text(errors="replace").count("(INJECTED)")

    def close(self) -> None:
        """The process goes on by itself."""
        if self._program.poll() is None:
            self._program.terminate()
        self._program.communicate(timeout=20)


@contextlib.contextmanager
def failing(pid: int, call: str, error: str, when: str, folder: Path) -> Iterator[Injection]:
    injection = Injection(pid, call, error, when, folder)
    try:
        yield injection
    finally:
        injection.close()


@contextlib.contextmanager
def limited(pid: int, kind: int, soft: int) -> Iterator[None]:
    """A process has less of something, as long as this lasts: descriptors, size of files, address space."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def address_space(pid: int) -> int:
    """Bytes."""
    found = re.search(r"VmSize:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024
