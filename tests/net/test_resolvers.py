"""Every way in which programs over there resolve names, each by a real program: private names, public ones that the
codespace's own nameserver knows, names that exist without an address of the version asked for, and unknown ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CORP

from .conftest import TARGET, Bridges
from .programs import LOOKUP, built, changed, overlaid, resolved, unpacked

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
Way = Callable[[Machine, str], set[str]]
"""The IPv4 addresses of a name; empty: there are none."""
PUBLIC = "203.0.113.80"


def needed(program: str, package: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"needs {program} (Debian's package {package})")


def glibc(machine: Machine, name: str) -> set[str]:
    """getaddrinfo of the C library."""
    return {line.split()[0] for line in machine.run("getent", "ahostsv4", name).stdout.splitlines()}


def curl(machine: Machine, name: str) -> set[str]:
    output = machine.run("curl", "-4", "-sS", "-m5", "-o", "/dev/null", "-w", "%{remote_ip}", f"http://{name}/small")
    assert output.code in (0, 6, 7, 28), output
    found = output.stdout.strip()
    return {found} if found else ({PUBLIC} if output.code in (7, 28) else set())  # that one does not exist here


def ping(machine: Machine, name: str) -> set[str]:
    output = machine.run("ping", "-4", "-c1", "-W1", name)
    return {output.stdout.partition("(")[2].partition(")")[0]} if output.stdout else set()


def dig(machine: Machine, name: str) -> set[str]:
    lines = machine.run("dig", "+short", "+tries=1", "+time=5", name).check().stdout.splitlines()
    return {line for line in lines if not line.endswith(".")}  # without aliases


def busybox(machine: Machine, name: str) -> set[str]:
    needed("busybox", "busybox")
    lines = machine.run("busybox", "nslookup", "-type=a", name).stdout.partition("\n\n")[2].splitlines()
    return {line.split()[1] for line in lines if line.startswith("Address")}


def golang(machine: Machine, name: str) -> set[str]:
    """Go's own resolver, which reads resolv.conf itself, in the GitHub CLI: its error tells whom it dialled."""
    needed("gh", "gh")
    settings = {"GODEBUG": "netdns=go+1", "GH_TOKEN": "x", "GH_ENTERPRISE_TOKEN": "x", "GH_NO_UPDATE_NOTIFIER": "1"}
    output = machine.run("gh", "api", "--hostname", name, "/", environment=settings, timeout=60)
    assert "using Go's resolver" in output.stderr or "go package net: GODEBUG" in output.stderr, output
    dialled = output.stderr.rpartition("dial tcp ")[2] if "dial tcp " in output.stderr else ""
    host = dialled.partition(": ")[0].rpartition(":")[0]
    return {host} if host and host[0].isdigit() else set()


def node_lookup(machine: Machine, name: str) -> set[str]:
    """Node's dns.lookup: getaddrinfo in a thread."""
    return _node(machine, f"dns.lookup({name!r}, {{all: true, family: 4}}, done)")


def node_resolve(machine: Machine, name: str) -> set[str]:
    """Node's dns.resolve: c-ares, which reads resolv.conf itself."""
    return _node(machine, f"dns.resolve4({name!r}, done)")


def _node(machine: Machine, call: str) -> set[str]:
    needed("node", "nodejs")
    source = f"""
        const dns = require("dns")
        const texts = found => found.map(address => address.address || address)
        const done = (error, found) => console.log(JSON.stringify(error ? [error.code] : texts(found)))
        {call}
    """
    found = json.loads(machine.run("node", "-e", source).check().stdout)
    assert not {"ECONNREFUSED", "ETIMEOUT", "ESERVFAIL", "EAI_AGAIN"} & set(found), found
    return {address for address in found if address[0].isdigit()}


JAVA = """
import java.net.*;
public class Lookup {
    public static void main(String[] names) {
        for (String name : names)
            try {
                for (InetAddress address : InetAddress.getAllByName(name)) System.out.println(address.getHostAddress());
            } catch (UnknownHostException unknown) { }
    }
}
"""


def java(machine: Machine, name: str) -> set[str]:
    needed("javac", "default-jdk-headless")
    source = machine.folder / "Lookup.java"
    source.write_text(JAVA)
    lines = machine.run("java", "-Xshare:auto", source, name, timeout=60).check().stdout.splitlines()
    return {line for line in lines if ":" not in line}


WAYS: list[Way] = [glibc, curl, ping, dig, busybox, golang, node_lookup, node_resolve, java]


@pytest.fixture
def bridged(bridges: Bridges, world: World) -> World:
    """One bridge for all of these, by a codespace like GitHub's: its nameserver is on loopback."""
    bridges.get("openssh")
    return world


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_names_by(bridged: World, way: Way) -> None:
    codespace = bridged.codespace
    assert way(codespace, "v4only.corp.test") == {CORP[4]}
    assert way(codespace, "alias.corp.test") == {CORP[4]}
    assert way(codespace, "www.public.test") == {PUBLIC}
    assert way(codespace, "v6only.corp.test") == set()
    assert way(codespace, "nothing.corp.test") == set()


OPTIONS = (
    "ndots:3", "rotate", "use-vc", "edns0 trust-ad", "single-request", "single-request-reopen", "timeout:1 attempts:1",
)  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
def test_options_in_resolv_conf_are_kept_and_honoured(idle: World, start: Start, options: str) -> None:
    path = idle.codespace.folder / "resolv.conf"
    text = f"nameserver 127.0.0.53\nsearch internal.cloudapp.test\noptions {options}\n"
    with changed(path, text):
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert f"\noptions {options}\n" in path.read_text()
        for _ in range(4):  # as many as rotate has turns
            assert glibc(idle.codespace, "v4only.corp.test") == {CORP[4]}
            assert glibc(idle.codespace, "www.public.test") == {PUBLIC}
            assert glibc(idle.codespace, "nothing.corp.test") == set()
        if "ndots" not in options:
            assert golang(idle.codespace, "v4only.corp.test") == {CORP[4]}
        bridge.stop()
        assert path.read_text() == text


def test_names_by_musl(idle: World, start: Start) -> None:
    """With a search list of its own, and nameservers it would ask all at once."""
    path = idle.codespace.folder / "resolv.conf"
    with overlaid(idle.codespace, unpacked("musl")):
        lookup = built(idle.codespace, LOOKUP, "lookup", compiler="musl-gcc")

        def musl(name: str) -> set[str]:
            words = idle.codespace.run(lookup, name).check().stdout.split()[1:]
            return {word for word in words if "." in word}

        with changed(path, "nameserver 127.0.0.53\nnameserver 127.0.0.54\nsearch public.test\noptions ndots:2\n"):
            start(TARGET, "--ssh", "openssh").ready()
            assert musl("v4only.corp.test") == {CORP[4]}
            assert musl("www") == {PUBLIC}
            assert musl("v6only.corp.test") == set()
            assert musl("nothing.corp.test") == set()


def test_names_by_systemd_resolved(idle: World, start: Start) -> None:
    """Over its D-Bus (resolvectl), over NSS alone, and by its stub; it is told what changes and forgets it all."""
    codespace = idle.codespace
    with resolved(codespace, cloud="127.0.0.98", stub="127.0.0.153", as_system=True):
        bridge = start(TARGET, "--ssh", "openssh").ready()
        for name, address in (("v4only.corp.test", CORP[4]), ("www.public.test", PUBLIC)):
            assert address in codespace.run("resolvectl", "query", "-4", name).check().stdout
            assert address in codespace.run("getent", "-s", "resolve", "ahostsv4", name).check().stdout
            assert dig(codespace, name) == {address}
            assert codespace.run("dig", "+short", "@127.0.0.153", name).stdout == f"{address}\n"
        assert "(nb0): corp.test" in codespace.run("resolvectl", "domain").stdout  # searched, and asked there first
        assert CORP[4] in codespace.run("getent", "-s", "resolve", "ahostsv4", "v4only").check().stdout
        unknown = codespace.run("resolvectl", "query", "nothing.corp.test")
        assert unknown.code == 1
        assert "not found" in unknown.stderr
        missing = codespace.run("resolvectl", "query", "-6", "v4only.corp.test")
        assert "does not have any RR" in missing.stderr
        bridge.stop()
        assert "nb0" not in codespace.run("resolvectl", "status").stdout
