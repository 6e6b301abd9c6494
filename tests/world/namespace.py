"""A bare network namespace: the kernel's own TCP/IP as a peer, behind TUN devices that the test process holds.

Nothing but a loopback, so many of them are made in a moment. Sockets opened by `inside` stay there and serve the whole
process; sysctls are the namespace's own.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from netbridge.stack.link import TunLink, open_tun

from .machine import in_network

T = TypeVar("T")

STATES = (
    "", "ESTABLISHED", "SYN-SENT", "SYN-RECEIVED", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSED", "CLOSE-WAIT",
    "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECEIVED",
)  # fmt: skip
"""By the numbers of include/net/tcp_states.h; the last is a request that is no socket yet."""


class Namespace:
    """Made at once, gone with `close`. Raises CalledProcessError where the kernel or `ip` say no."""

    def __init__(self, sysctls: Mapping[str, object] | None = None) -> None:
        """`sysctls`: by their names below net.ipv4, as "tcp_sack"."""
        self.name = f"nbk{secrets.token_hex(4)}"
        subprocess.run(("ip", "netns", "add", self.name), check=True, capture_output=True, text=True)
        try:
            self.ip("link set lo up")
            for name, value in (sysctls or {}).items():
                self.set(name, value)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the name; the kernel frees the rest when the last socket in it is closed."""
        subprocess.run(("ip", "netns", "del", self.name), check=False, capture_output=True)

    def ip(self, *lines: str) -> None:
        """Run `ip` commands in it as one batch."""
        batch = "\n".join(lines) + "\n"
        command = ("ip", "-n", self.name, "-batch", "-")
        subprocess.run(command, input=batch, check=True, capture_output=True, text=True)

    def inside(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread that joined the namespace."""
        return in_network(f"/run/netns/{self.name}", function)

    def set(self, name: str, value: object) -> None:
        """Set net.ipv4.`name`."""
        self.inside(lambda: Path("/proc/sys/net/ipv4", name).write_text(f"{value}\n"))

    def tun(self, addresses: Sequence[str], *, mtu: int = 1500, offload: bool = False) -> TunLink:
        """A TUN device of the namespace with these addresses ("10.0.0.1/30"), up, held by this process."""
        link = self.inside(lambda: open_tun(f"nb{secrets.token_hex(4)}", mtu=mtu, offload=offload))
        self.ip(
            *(f"address add {one} dev {link.name}{' nodad' if ':' in one else ''}" for one in addresses),
            f"link set {link.name} up",
        )
        return link

    def tcp(self, version: int) -> socket.socket:
        """A TCP socket, blocking as any other, with CUBIC: what the host prefers it hands down to its namespaces."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        made = self.inside(lambda: socket.socket(family, socket.SOCK_STREAM))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        return made

    def listen(self, host: str, port: int = 0) -> socket.socket:
        """A listening socket."""
        made = self.tcp(6 if ":" in host else 4)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(64)
        return made

    def command(self, program: Path | str, *arguments: object) -> list[str]:
        """The words that run a Python program in it."""
        return ["ip", "netns", "exec", self.name, sys.executable, "-I", str(program), *map(str, arguments)]

    def connections(self) -> dict[tuple[int, int], str]:
        """The state of every connection by local and remote port; listeners are left out."""

        def read() -> list[str]:
            return [
                line for name in ("tcp", "tcp6")
                for line in Path("/proc/thread-self/net", name).read_text().splitlines()[1:]
            ]  # fmt: skip

        return states(self.inside(read))


def states(lines: Sequence[str]) -> dict[tuple[int, int], str]:
    """What lines of /proc/net/tcp say, headers left out."""
    found = {}
    for line in lines:
        _, local, remote, state, *_ = line.split()
        if (name := STATES[int(state, 16)]) != "LISTEN":
            found[int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)] = name
    return found
