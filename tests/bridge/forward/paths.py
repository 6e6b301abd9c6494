"""Three network namespaces in a row, host - router - far, entered by the test itself: real routers' errors without a
second process. A socket belongs to the namespace it was opened in, so a test may hold sockets in all of them."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000

HOST = {4: "10.77.1.1", 6: "fd77:1::1"}
ROUTER = {4: "10.77.1.2", 6: "fd77:1::2"}
FAR = {4: "10.77.2.2", 6: "fd77:2::2"}
NOBODY_FAR = {4: "10.77.2.99", 6: "fd77:2::99"}
NOBODY_NEAR = {4: "10.77.1.99", 6: "fd77:1::99"}
BEYOND = {4: "10.99.0.1", 6: "fd99::1"}
"""Nobody has a route there."""
PATH_MTU = 1300


class Paths:
    """The namespaces; `close` removes them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._names = {role: f"nbf-{os.getpid()}-{role}" for role in ("host", "router", "far")}

    def build(self) -> None:
        names = self._names
        for name in names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            with self.inside(name):
                write("/proc/sys/net/ipv6/conf/all/accept_dad", "0")
                write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
                write("/proc/sys/net/ipv4/icmp_ratelimit", "0")
                write("/proc/sys/net/ipv6/icmp/ratelimit", "0")
        for left, right, mtu, net in (("host", "router", 1500, 1), ("router", "far", PATH_MTU, 2)):
            run(
                "ip", "link", "add", "eth1", "mtu", str(mtu), "netns", names[left],
                "type", "veth", "peer", "eth0", "mtu", str(mtu), "netns", names[right],
            )
            for role, device, number in ((left, "eth1", 1), (right, "eth0", 2)):
                run("ip", "-n", names[role], "addr", "add", f"10.77.{net}.{number}/24", "dev", device)
                run("ip", "-n", names[role], "addr", "add", f"fd77:{net}::{number}/64", "dev", device, "nodad")
                run("ip", "-n", names[role], "link", "set", device, "up")
                with self.inside(names[role]):  # a silent neighbour is given up after 0.3 s, not 3
                    write(f"/proc/sys/net/ipv4/neigh/{device}/retrans_time_ms", "100")
                    write(f"/proc/sys/net/ipv6/neigh/{device}/retrans_time_ms", "100")
        with self.inside(names["router"]):
            write("/proc/sys/net/ipv4/ip_forward", "1")
            write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        for role, there, via4, via6 in (
            ("host", "2", ROUTER[4], ROUTER[6]), ("far", "1", "10.77.2.1", "fd77:2::1"),
        ):
            run("ip", "-n", names[role], "route", "add", f"10.77.{there}.0/24", "via", via4)
            run("ip", "-n", names[role], "route", "add", f"fd77:{there}::/64", "via", via6)
        with self.at("host"):
            for address in FAR.values():
                wait_for_path(address)

    def close(self) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        os.close(self._home)

    @contextmanager
    def at(self, role: str) -> Iterator[None]:
        """Whatever is opened meanwhile is opened in that place."""
        with self.inside(self._names[role]):
            yield

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(f"/run/netns/{name}", os.O_RDONLY)
            try:
                self._enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                self._enter(before)
        finally:
            os.close(before)

    def command(self, role: str, *words: str) -> None:
        run("ip", "netns", "exec", self._names[role], *words)

    def udp(self, role: str, address: str, port: int = 0) -> socket.socket:
        """A bound UDP socket in that place."""
        with self.at(role):
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, port))
            sock.settimeout(5)
            return sock

    def _enter(self, descriptor: int) -> None:
        if self._libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def wait_for_path(address: str) -> None:
    """Until a closed port there refuses."""
    for _ in range(100):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((address, 9))
                sock.send(b"x")
                time.sleep(0.05)
                sock.send(b"x")
            except ConnectionRefusedError:
                return
            except OSError:
                time.sleep(0.05)
    raise TimeoutError(f"no path to {address}")


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
