"""Builds the world, and takes it down again."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from . import servers, sshd
from .addresses import (
    BRANCH,
    BRANCH_NETWORKS,
    CODESPACE,
    CODESPACE_RESOLVER,
    CORP,
    CORP_NETWORKS,
    CORP_TO_BRANCH,
    HTTP_PORT,
    LAPTOP,
    LAPTOP_IN_CORP,
    NARROW,
    POSTGRES_PORT,
    PROHIBITED,
    REDIS_PORT,
    SSH_PORT,
    UNREACHABLE,
)
from .machine import Machine, wait_until

PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "hostname": "hostname",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "unbound": "unbound",
    "iperf3": "iperf3",
    "dig": "bind9-dnsutils",
    "curl": "curl",
    "psql": "postgresql-client",
    "ping": "iputils-ping",
    "traceroute": "traceroute",
    "tracepath": "iputils-tracepath",
    "mtr": "mtr-tiny",
    "nc": "netcat-openbsd",
    "openssl": "openssl",
}
"""What the world runs, and the Debian package each comes with."""


def missing() -> str:
    """Why no world can be built here, or an empty string."""
    if sys.platform != "linux":
        return "network namespaces are a Linux thing"
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=search)}
    if servers.postgres_folder() is None:
        lacking.add("postgresql")
    if lacking:
        return "needs the packages " + " ".join(sorted(lacking))
    return ""


PREFIX = "netbridge-world-"


def sweep() -> None:
    """Remove the folders of worlds whose process was killed; the kernel took everything else of them."""
    for folder in Path("/var/tmp").glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(folder, ignore_errors=True)


class World:
    """A codespace, a laptop, corp and its branch office. A context manager; nothing is left when it closes."""

    def __init__(self) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.codespace = Machine("codespace", self.folder / "codespace", private=("/tmp", "/run", "/dev/shm"))
        self.laptop = Machine("laptop", self.folder / "laptop")
        self.corp = Machine("corp", self.folder / "corp")
        self.branch = Machine("branch", self.folder / "branch")
        self.web = self.corp.folder / "www"
        self.machines = (self.codespace, self.laptop, self.corp, self.branch)

    def __enter__(self) -> Self:
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def key(self) -> Path:
        """The private key that the codespace accepts."""
        return self.laptop.folder / "home/.ssh/id_ed25519"

    def build(self) -> None:
        """Boot the machines, wire them, start the servers and wait until they answer."""
        for machine in self.machines:
            machine.boot()
        sshd.prepare_client(self.laptop.folder / "home")
        sshd.set_home(self.laptop, self.laptop.folder / "home")
        sshd.set_home(self.codespace, self.codespace.folder / "home")
        sshd.add_users(self.codespace)
        (self.codespace.folder / "resolv.conf").write_text(
            f"# the cloud's own\nnameserver {CODESPACE_RESOLVER}\nsearch internal.cloudapp.test\noptions edns0\n"
        )
        (self.laptop.folder / "resolv.conf").write_text(f"nameserver {CORP[4]}\nsearch corp.test\n")
        for machine in self.machines:
            machine.booted()
        self.wire()
        self.web = servers.nginx(self.corp, CORP.values())
        servers.nginx(self.branch, BRANCH.values())
        servers.postgres(self.corp)
        servers.redis(self.corp)
        servers.udp_echo(self.corp, CORP.values())
        servers.udp_echo(self.branch, BRANCH.values())
        servers.unbound(self.corp, list(CORP.values()), servers.corp_zone(self.corp))
        servers.codespace_resolver(self.codespace)
        sshd.serve(self.codespace, self.key.with_suffix(".pub"), *CODESPACE.values())
        sshd.know_host(self.laptop.folder / "home", self.codespace.folder / "sshd/host_key.pub")
        sshd.add_person(self.laptop, self.codespace.folder / "sshd/authorized_keys")
        for machine in self.machines:
            wait_until(functools.partial(self.settled, machine), f"the links of {machine.name}")
        expected = [(self.codespace, CODESPACE_RESOLVER, 53)]
        for version in (4, 6):
            expected += [(self.laptop, CODESPACE[version], SSH_PORT)]
            ports = (HTTP_PORT, 53, REDIS_PORT, POSTGRES_PORT)
            expected += [(self.laptop, CORP[version], port) for port in ports]
            expected += [(self.laptop, BRANCH[version], HTTP_PORT)]
        for machine, host, port in expected:
            wait_until(functools.partial(machine.answers, host, port), f"{host} port {port}")

    def wire(self) -> None:
        """Links, addresses and routes. The laptop forwards nothing, and corp and branch know no way back."""
        codespace, laptop, corp, branch = self.machines
        for machine in self.machines:
            machine.shell(
                "cd /proc/sys/net; echo 0 > ipv4/ip_forward; echo 0 > ipv6/conf/all/forwarding; "
                "echo 0 > ipv6/conf/default/accept_dad; echo 0 > ipv6/conf/all/accept_ra; "
                "echo 0 > ipv6/conf/default/accept_ra; "
                # as systemd distributions set it: anybody may ping without privileges
                "echo '0 2147483647' > ipv4/ping_group_range"
            ).check()
        self._veth(laptop, "eth0", codespace, "eth0")
        self._veth(laptop, "eth1", corp, "eth0")
        self._veth(corp, "eth1", branch, "eth0")
        codespace.ip(
            f"addr add {CODESPACE[4]}/24 dev eth0",
            f"addr add {CODESPACE[6]}/64 dev eth0 nodad",
            "link set eth0 up",
            "link add docker0 type bridge",
            "addr add 172.17.0.1/16 dev docker0",
            "link set docker0 up",
            f"route add default via {LAPTOP[4]}",
            f"route add ::/0 via {LAPTOP[6]}",
        )
        laptop.ip(
            f"addr add {LAPTOP[4]}/24 dev eth0",
            f"addr add {LAPTOP[6]}/64 dev eth0 nodad",
            "link set eth0 up",
            f"addr add {LAPTOP_IN_CORP[4]}/24 dev eth1",
            f"addr add {LAPTOP_IN_CORP[6]}/64 dev eth1 nodad",
            "link set eth1 up",
            f"route add 10.98.0.0/24 via {CORP[4]}",
            f"route add fd98::/64 via {CORP[6]}",
            f"route add unreachable {UNREACHABLE[4]}/32",
            f"route add unreachable {UNREACHABLE[6]}/128",
            f"route add prohibit {PROHIBITED[4]}/32",
            f"route add prohibit {PROHIBITED[6]}/128",
            f"route add {BRANCH_NETWORKS[0]} via {CORP[4]}",
            f"route add {BRANCH_NETWORKS[1]} via {CORP[6]}",
        )
        corp.ip(
            f"addr add {CORP[4]}/24 dev eth0",
            f"addr add {CORP[6]}/64 dev eth0 nodad",
            "link set eth0 up",
            "route add blackhole 10.98.0.0/24",
            "route add blackhole fd98::/64",
            f"addr add {CORP_TO_BRANCH[4]}/24 dev eth1",
            f"addr add {CORP_TO_BRANCH[6]}/64 dev eth1 nodad",
            f"link set eth1 mtu {NARROW} up",
        )
        branch.ip(
            f"addr add {BRANCH[4]}/24 dev eth0",
            f"addr add {BRANCH[6]}/64 dev eth0 nodad",
            f"link set eth0 mtu {NARROW} up",
            f"route add {CORP_NETWORKS[0]} via {CORP_TO_BRANCH[4]}",
            f"route add {CORP_NETWORKS[1]} via {CORP_TO_BRANCH[6]}",
        )
        corp.shell("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding").check()
        for machine in (corp, branch):
            # a bit for each type that is limited: one a second for each host, 50 at once for all
            machine.shell("cd /proc/sys/net; echo 0 > ipv4/icmp_ratemask; echo > ipv6/icmp/ratemask").check()

    @staticmethod
    def _veth(one: Machine, name: str, other: Machine, other_name: str) -> None:
        """A cable between two machines; the host's namespace sees neither end, not even for a moment."""
        subprocess.run(
            [
                "nsenter",
                "-t",
                str(one.init),
                "-n",
                "ip",
                "link",
                "add",
                name,
                "type",
                "veth",
                "peer",
                "name",
                other_name,
                "netns",
                str(other.init),
            ],
            check=True,
        )

    @staticmethod
    def settled(machine: Machine) -> bool:
        """True when its links have a carrier and their own IPv6 addresses are no longer tentative."""
        lines = [line for line in machine.shell("ip -o link; ip -o addr").stdout.splitlines() if ": eth" in line]
        up = sum("LOWER_UP" in line for line in lines)
        local = sum("inet6 fe80" in line and "tentative" not in line for line in lines)
        return up == local == sum(" mtu " in line for line in lines)

    def widen_ports(self) -> None:
        """Let load generators open more connections a minute than the usual 28,000 ports allow."""
        for machine in self.machines:
            machine.shell("cd /proc/sys/net/ipv4; echo 1024 65535 > ip_local_port_range; echo 1 > tcp_tw_reuse").check()

    def know_neighbours(self) -> None:
        """Let no machine forget its neighbours' hardware addresses.

        Who speaks to ever new addresses of a network fills the kernel's table of neighbours, and from a full one
        whoever was not heard of for five seconds is thrown out. Real machines have one each; all these share one.
        """
        codespace, laptop, corp, branch = self.machines
        ends = (((laptop, "eth0"), (codespace, "eth0")), ((laptop, "eth1"), (corp, "eth0")),
                ((corp, "eth1"), (branch, "eth0")))  # fmt: skip
        for one, other in ends:
            for (machine, name), (neighbour, its_name) in ((one, other), (other, one)):
                (link,) = json.loads(neighbour.shell(f"ip -j addr show dev {its_name}").check().stdout)
                machine.ip(*(
                    f"neigh replace {address['local']} lladdr {link['address']} dev {name} nud permanent"
                    for address in link["addr_info"]
                ))  # fmt: skip

    def close(self) -> None:
        """Take everything down."""
        for machine in self.machines:
            machine.close()
        shutil.rmtree(self.folder, ignore_errors=True)
