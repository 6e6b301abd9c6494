"""Where netbridge's code calls into the operating system: found in the sources, compared with the list that is kept.

`python -m tests.faults.sites` writes the list (`sites.txt`) anew. A line is a file and a function, and what is called
there. The test beside this fails where the list and the sources differ, and where a call is neither at the seam nor
named here with a reason; so a new call is seen by somebody who thinks of its failures.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from .seam import FUNCTIONS, METHODS

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("sites.txt")
ROOMS = ("bridge", "cli", "stack")

MODULES = {
    "os", "socket", "select", "fcntl", "subprocess", "signal", "mmap", "shutil", "tempfile", "resource", "termios",
    "tty", "pty", "ctypes", "threading",
}  # fmt: skip
ASYNCIO = {
    "add_reader", "add_writer", "connect_read_pipe", "connect_write_pipe", "create_connection",
    "create_datagram_endpoint", "create_server", "create_subprocess_exec", "create_unix_connection",
    "create_unix_server", "getaddrinfo", "open_connection", "open_unix_connection", "run_in_executor", "sock_accept",
    "sock_connect", "sock_recv", "sock_sendall", "start_server", "start_tls", "subprocess_exec", "to_thread",
}  # fmt: skip
"""What asyncio does by calls that are at the seam: sockets, epoll, threads, children."""
FILES = {
    "chmod", "exists", "fdopen", "flush", "is_dir", "is_file", "is_symlink", "iterdir", "mkdir", "read_bytes",
    "read_text", "readinto", "readline", "readlines", "rename", "rmdir", "symlink_to", "touch", "unlink", "write_bytes",
    "write_text", "writelines",
}  # fmt: skip
"""Of files and paths: `open`, `stat` and what else is at the seam is below them."""

CANNOT_FAIL = {
    "ctypes.c_ulong", "ctypes.get_errno", "os._exit", "os.environ.clear", "os.environ.get", "os.environ.pop",
    "os.environ.update", "os.fsdecode", "os.fsencode", "os.getcwd", "os.getegid",
    "os.geteuid", "os.getgid", "os.getgroups", "os.getpgrp", "os.getpid", "os.getppid", "os.getuid", "os.isatty",
    "os.nice", "os.strerror", "os.sysconf", "os.umask", "os.uname", "os.urandom", "os.waitstatus_to_exitcode",
    "os.close", "os.closerange", "os.get_blocking", "os.set_blocking", "os.set_inheritable", "os.makedev",
    "socket.CMSG_LEN", "socket.CMSG_SPACE", "socket.gaierror", "socket.gethostname", "socket.inet_aton",
    "socket.inet_ntoa", "socket.inet_ntop", "socket.inet_pton", "socket.htons", "socket.ntohs", "socket.timeout",
    "signal.Signals", "signal.alarm", "signal.getsignal", "signal.pthread_sigmask", "signal.set_wakeup_fd",
    "signal.signal", "signal.strsignal", "resource.getpagesize", "resource.getrlimit", "resource.getrusage",
    "threading.Event", "threading.Lock", "threading.RLock", "threading.Semaphore", "threading.Thread",
    "threading.active_count", "threading.current_thread", "threading.get_ident", "threading.local", "select.poll",
    "select.select", "shutil.get_terminal_size",
}  # fmt: skip
"""Not on Linux, with arguments that are right (their pages of section 2); or they touch nothing but memory."""
ELSEWHERE = {
    "os.chdir": "to a folder that always is: /",
    "os.setsid": "fails only for a process that leads a group, which a fork's child does not",
    "os.setegid": "needs a right that is there or is not: tests/bridge/test_user.py",
    "os.seteuid": "the same", "os.setgroups": "the same", "os.setresgid": "the same", "os.setresuid": "the same",
    "os.getgrouplist": "reads the user database: tests/bridge/test_user.py",
    "os.waitpid": "ECHILD alone, a mistake of the program", "os.waitid": "the same",
    "os.access": "answers by False", "os.get_terminal_size": "no terminal: tests/cli/test_output.py",
    "os.tcgetpgrp": "terminals: tests/bridge/transport/test_terminal.py", "os.tcsetpgrp": "the same",
    "os.killpg": "at the seam", "os.execv": "strace", "os.execve": "strace", "os.execvp": "strace",
    "os.pidfd_open": "at the seam",
    "resource.setrlimit": "raising what may be raised: tests/bridge/forward/test_limits.py",
    "socket.getnameinfo": "asked for numbers only, or in the name service's threads like getaddrinfo",
    "socket.create_server": "by calls that are at the seam", "socket.create_connection": "the same",
    "socket.if_nametoindex": "at the seam",
    "subprocess.Popen": "at the seam: its fork", "subprocess.run": "the same", "subprocess.check_output": "the same",
    "shutil.rmtree": "leaves what it cannot remove", "shutil.which": "answers by None",
    "tempfile.gettempdir": "names a folder, once", "tempfile.mkstemp": "by os.open, at the seam",
    "tempfile.TemporaryDirectory": "by os.mkdir, at the seam",
    "termios.tcgetattr": "terminals: tests/bridge/transport/test_terminal.py", "termios.tcsetattr": "the same",
    "termios.tcflush": "the same", "tty.setraw": "the same", "tty.setcbreak": "the same",
    "select.epoll": "at the seam", "select.kqueue": "macOS", "ctypes.CDLL": "loads what is loaded already",
}
"""Calls that are not at the seam by themselves, and why."""
AT_THE_SEAM = {f"{module.__name__}.{name}" for module, names in FUNCTIONS.items() for name in names} | {
    "os.open", "os.fdopen", "socket.socket",
}  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Function and call, for all that may touch the system."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            name = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{inside}.{child.name}".lstrip(".")
            if isinstance(child, ast.Call) and (what := called(child.func)):
                yield inside or "(module)", what
            yield from walk(child, name)

    return walk(tree, "")


def called(function: ast.expr) -> str:
    """The call's name where it may touch the system: `os.open`, `.send`, `open`; else empty."""
    if isinstance(function, ast.Name):
        return "open" if function.id == "open" else ""
    if not isinstance(function, ast.Attribute):
        return ""
    place = function.value
    if isinstance(place, ast.Name) and place.id in MODULES:
        return f"{place.id}.{function.attr}"
    if isinstance(place, ast.Attribute) and isinstance(place.value, ast.Name) and place.value.id == "os":
        return "" if place.attr == "path" else f"os.{place.attr}.{function.attr}"
    return f".{function.attr}" if function.attr in METHODS | dict.fromkeys(ASYNCIO | FILES) else ""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def sites() -> list[str]:
    """All of them, sorted: `bridge/control.py Control.start: .bind .listen socket.socket`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for function, what in calls(parsed(path)):
                if what not in CANNOT_FAIL:
                    found[f"{path.relative_to(ROOT)} {function}"].add(what)
    return [f"{place}: {' '.join(sorted(names))}" for place, names in sorted(found.items())]


def strange() -> list[str]:
    """Calls of the sources of which nothing is known here."""
    known = AT_THE_SEAM | ELSEWHERE.keys()
    return [
        f"{line.partition(':')[0]}: {name}" for line in sites() for name in line.partition(": ")[2].split()
        if not name.startswith(".") and name != "open" and name not in known
    ]


if __name__ == "__main__":
    LIST.write_text("\n".join(sites()) + "\n")
    print(f"{len(sites())} functions, {sum(len(line.split()) - 2 for line in sites())} calls; unknown: {strange()}")
