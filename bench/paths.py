"""The ways from a codespace to corp that are measured side by side."""

from __future__ import annotations

import abc
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from tests.world import World, sshd
from tests.world.addresses import CODESPACE, CORP, LAPTOP, SSH_PORT
from tests.world.machine import Program, wait_until

from .cost import descendants, peak_megabytes
from .loads import Place, Reason

CIPHER = "aes128-gcm@openssh.com"
"""The fastest cipher of OpenSSH where the processor knows AES; the same for all tools that use ssh."""

SSH = ("ssh", "-p", str(SSH_PORT), "-c", CIPHER, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new")


class Way(abc.ABC):
    """One way. `up` raises Reason when it cannot be built here."""

    name = ""
    about = ""
    udp = ""
    """Why it carries no UDP, or empty."""
    resolver = ""
    """A DNS server the tool itself offers to the codespace, asked besides corp's own."""
    names = ""
    """The nameserver that the codespace's programs ask, where the tool puts one before their own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clean = ExitStack()
        self.tools: list[Program] = []

    @abc.abstractmethod
    def up(self) -> Place:
        """Build it; where the loads run."""

    def down(self) -> None:
        """Take it down; called in any case."""
        for program in reversed(self.tools):
            program.kill()
        self.tools.clear()
        self.clean.close()

    def memory(self) -> float:
        """Megabytes at most, of the largest process of the tool."""
        pids = [pid for program in self.tools if program.running for pid in descendants(program.popen.pid)]
        return max((peak_megabytes(pid) for pid in pids), default=0.0)

    def wait(self, place: Place, program: Program, seconds: float = 15.0) -> Place:
        """Wait until corp's web server answers through it."""
        deadline = time.monotonic() + seconds
        while not place.machine.inside(lambda: answers(CORP[4], 80), place.enter):
            if not program.running:
                raise Reason(f"{program.argv[0]} ended with exit {program.wait()}: {self.last_line()}")
            if time.monotonic() > deadline:
                raise Reason(f"corp does not answer through it after {seconds:g} s: {self.last_line()}")
            time.sleep(0.1)
        return place

    def last_line(self) -> str:
        for machine in (self.world.codespace, self.world.laptop):
            log = machine.folder / f"{self.name}.log"
            if log.exists() and (lines := log.read_text(errors="replace").strip().splitlines()):
                return lines[-1][:120]
        return "no output"


def answers(host: str, port: int) -> bool:
    import socket

    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


class Kernel(Way):
    """The laptop itself, by veth."""

    name = "kernel"
    about = "bare kernel (veth)"

    def up(self) -> Place:
        return Place(self.world.laptop, self.world.corp)


class SshTunnel(Way):
    """`ssh -w`: the kernel's IP over OpenSSH's tunnel device; the laptop forwards."""

    name = "ssh-w"
    about = "ssh -w (kernel TUN)"

    def up(self) -> Place:
        world = self.world
        tunnel = world.laptop.start(
            *SSH, "-N", "-w", "7:7", "-o", "ServerAliveInterval=5", f"root@{CODESPACE[4]}", log=f"{self.name}.log"
        )
        self.tools.append(tunnel)
        for machine in (world.laptop, world.codespace):
            try:
                wait_until(lambda: machine.run("ip", "link", "show", "tun7").code == 0, "tun7", 8, 0.1)  # noqa: B023
            except AssertionError:
                raise Reason(f"no tunnel device: {self.last_line()}") from None
        world.laptop.ip("addr add 10.97.0.1/30 dev tun7", "link set tun7 up")
        world.codespace.ip("addr add 10.97.0.2/30 dev tun7", "link set tun7 up", "route add 10.99.0.0/24 via 10.97.0.1")
        world.corp.ip("route add 10.97.0.0/30 via 10.99.0.1")
        world.laptop.shell("echo 1 > /proc/sys/net/ipv4/ip_forward").check()
        self.clean.callback(lambda: world.laptop.shell("echo 0 > /proc/sys/net/ipv4/ip_forward"))
        self.clean.callback(lambda: world.corp.run("ip", "route", "del", "10.97.0.0/30"))
        return self.wait(Place(world.codespace, world.corp), tunnel)


class Sshuttle(Way):
    """sshuttle in the codespace, with the laptop as its server."""

    name = "sshuttle"
    about = "sshuttle"
    udp = "sshuttle's redirecting methods carry no UDP but DNS"
    resolver = "127.0.0.53"

    def up(self) -> Place:
        codespace = self.world.codespace
        serve_laptop(self.world)
        client = codespace.start(
            "sshuttle",
            "--dns",
            "-r",
            f"root@{LAPTOP[4]}:{SSH_PORT}",
            "-e",
            f"ssh -c {CIPHER} -o BatchMode=yes",
            "--disable-ipv6",
            "10.99.0.0/24",
            log=f"{self.name}.log",
        )
        self.tools.append(client)
        return self.wait(Place(codespace, self.world.corp), client)

    def down(self) -> None:
        for program in self.tools:
            if program.running:
                program.signal(15)  # so that it takes its firewall rules away
                try:
                    program.wait(5)
                except subprocess.TimeoutExpired:
                    pass
        super().down()
        for command in ("iptables -t nat -F", "nft flush ruleset"):
            self.world.codespace.shell(command)


class Slirp(Way):
    """slirp4netns for a network namespace on the laptop."""

    name = "slirp4netns"
    about = "slirp4netns (MTU 65520)"
    resolver = "10.0.2.3"

    def up(self) -> Place:
        laptop = self.world.laptop
        inner = laptop.start("unshare", "-n", "sleep", "infinity", log=f"{self.name}.log")
        self.tools.append(inner)
        pid = namespace_of(inner, laptop.init)
        tool = laptop.start(
            "slirp4netns",
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            str(self.inner_pid(pid)),
            "tap0",
            log=f"{self.name}.log",
        )
        self.tools.append(tool)
        return self.wait(Place(laptop, self.world.corp, pid), tool)

    @staticmethod
    def inner_pid(pid: int) -> int:
        """A process id as the laptop's own PID namespace numbers it."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
        return pid


class Pasta(Way):
    """pasta, run by an ordinary user: as root it hangs."""

    name = "pasta"
    about = "pasta"

    def up(self) -> Place:
        laptop = self.world.laptop
        user = "65534"
        tool = laptop.start(
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "pasta",
            "--config-net",
            "-f",
            "-i",
            "eth1",
            "-a",
            "10.99.0.1",
            "-n",
            "24",
            "-g",
            "10.99.0.254",
            "--no-map-gw",
            "--",
            "sleep",
            "infinity",
            log=f"{self.name}.log",
        )
        self.tools.append(tool)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and tool.running:
            for pid in descendants(tool.popen.pid):
                try:
                    if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                        return self.wait(Place(laptop, self.world.corp, pid), tool)
                except OSError:
                    continue
            time.sleep(0.05)
        raise Reason(f"pasta made no namespace: {self.last_line()}")


def namespace_of(program: Program, outer: int) -> int:
    """The program's process id, once it left the network namespace of `outer`."""

    def left() -> int:
        pid = program.pid
        try:
            return pid if pid and os.readlink(f"/proc/{pid}/ns/net") != os.readlink(f"/proc/{outer}/ns/net") else 0
        except OSError:
            return 0

    return wait_until(left, "the new network namespace")


def serve_laptop(world: World) -> None:
    """An OpenSSH server on the laptop that lets the codespace's root in, for tools that dial that way."""
    if (world.laptop.folder / "sshd").exists():
        return
    home = world.codespace.folder / "home"
    if not (home / ".ssh").exists():
        (home / ".ssh").mkdir(mode=0o700)
        sshd.keygen(home / ".ssh/id_ed25519")
    sshd.serve(world.laptop, home / ".ssh/id_ed25519.pub", LAPTOP[4])
    wait_until(lambda: world.codespace.answers(LAPTOP[4], SSH_PORT), "the laptop's sshd")
    kind, key = (world.laptop.folder / "sshd/host_key.pub").read_text().split()[:2]
    (home / ".ssh/known_hosts").write_text(f"[{LAPTOP[4]}]:{SSH_PORT} {kind} {key}\n")
