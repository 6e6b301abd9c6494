"""Known failures 7 to 12: names, with the resolvers that programs really use."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, World, servers
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.bridge import NETBRIDGE
from tests.world.machine import Output, wait_until

from .conftest import TARGET
from .programs import LOOKUP, NAME_SERVICE, built, changed, ended, overlaid, resolved, unpacked
from .watch import counter

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
VPN = "10.96.0.1"
"""An address that corp has and the laptop learns of later."""
MANY = 100
"""Addresses of many.vpn.test: about 1,600 bytes, too much for a datagram of ours."""


@pytest.fixture
def vpn(idle: World) -> Iterator[str]:
    """A network of corp that the laptop has no route to yet, with a resolver of its own."""
    idle.corp.ip(f"addr add {VPN}/32 dev lo")
    zone = ["  local-zone: vpn.test. static", f"  local-data: 'new.vpn.test. A {VPN}'"]
    zone += [f"""  local-data: 'medium.vpn.test. TXT "{number}{"y" * 199}"'""" for number in range(4)]
    zone += [f"  local-data: 'many.vpn.test. A 10.96.1.{number}'" for number in range(MANY)]
    laptops = idle.laptop.folder / "resolv.conf"
    with ended(idle.corp), changed(laptops, laptops.read_text()):
        servers.unbound(idle.corp, [VPN], zone)
        wait_until(lambda: idle.corp.answers(VPN, 53), "the VPN's resolver")
        yield VPN
    idle.corp.ip(f"addr del {VPN}/32 dev lo")
    idle.laptop.run("ip", "route", "del", "10.96.0.0/24")


def route_to(world: World, host: str) -> str:
    return world.codespace.run("ip", "route", "get", host).stdout


def dig(world: World, *words: str) -> Output:
    return world.codespace.run("dig", "+tries=1", "+time=6", *words)


def test_failure_07_vpn_that_comes_up_after_the_bridge(idle: World, start: Start, vpn: str) -> None:
    """The next connect takes the new route and the next query the new resolver; gone, both are as before."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    laptops = idle.laptop.folder / "resolv.conf"
    usual = laptops.read_text()
    assert "dev nb" not in route_to(idle, vpn)
    assert "NXDOMAIN" in dig(idle, "new.vpn.test").stdout  # and this answer must not be remembered
    with idle.corp.listen(vpn) as listener:
        idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
        laptops.write_text(f"nameserver {vpn}\nsearch vpn.test\n")
        wait_until(lambda: "dev nb" in route_to(idle, vpn), "the route", 10, 0.1)
        assert dig(idle, "+short", "new.vpn.test").stdout == f"{vpn}\n"
        port = listener.getsockname()[1]
        idle.codespace.connect(vpn, port).close()
        idle.codespace.run("nc", "-z", "-w", "3", "new.vpn.test", str(port)).check()
        idle.laptop.ip("route del 10.96.0.0/24")
        laptops.write_text(usual)
        # its other hosts: flows to the one that nobody accepted are still open, and keep their way
        wait_until(lambda: "dev nb" not in route_to(idle, "10.96.0.2"), "its end", 10, 0.1)
    assert dig(idle, "+short", "v4only.corp.test").stdout == f"{CORP[4]}\n"
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    assert bridge.program.running


def resolves(world: World, name: str, address: str) -> None:
    """As dig, the C library and curl see it."""
    assert dig(world, "+short", name).stdout == f"{address}\n"
    assert world.codespace.run("getent", "hosts", name).stdout.split()[0] == address
    assert world.codespace.run("curl", "-sS", "-m5", f"http://{name}/small").stdout == "netbridge\n"


def test_failure_08_name_only_in_the_hosts_file(idle: World, start: Start) -> None:
    """Of the laptop: as a VPN client or an administrator writes it, also while the bridge runs."""
    hosts = idle.laptop.folder / "etc/hosts"
    usual = hosts.read_text()
    with changed(hosts, usual + f"{CORP[4]} intranet.example.test intranet\n"):
        start(TARGET, "--ssh", "openssh").ready()
        resolves(idle, "intranet.example.test", CORP[4])
        hosts.write_text(usual + f"{CORP[4]} later.example.test\n")
        resolves(idle, "later.example.test", CORP[4])


@pytest.mark.parametrize(
    "name",
    [
        "printer",
        "printer.local",
        "wiki.split.test",
    ],
)
def test_failure_08_name_only_in_the_systems_name_service(idle: World, start: Start, name: str) -> None:
    """A source that only getaddrinfo asks (mDNS, a directory, a VPN's filter), here a module of its name service."""
    library = built(idle.laptop, NAME_SERVICE, "libnss_world.so.2", "-shared", "-fPIC")
    switch = idle.laptop.folder / "etc/nsswitch.conf"
    with changed(switch, switch.read_text().replace("hosts: files dns", "hosts: files world dns")):
        seeing = {"LD_LIBRARY_PATH": str(library.parent)}
        here = idle.laptop.run("getent", "hosts", name, environment=seeing)
        assert here.stdout.split()[0] == CORP[4], "the laptop itself does not see it"
        prefix = ("env", f"LD_LIBRARY_PATH={library.parent}", *NETBRIDGE)
        start(TARGET, "--ssh", "openssh", prefix=prefix).ready()
        resolves(idle, name, CORP[4])


def test_failure_09_musl_asks_all_nameservers_at_once(idle: World, start: Start) -> None:
    """On Alpine the first answer of any nameserver counts, and NXDOMAIN for AAAA would be one for the name: so the
    stub stands alone in resolv.conf, and "no such record" stays what it is."""
    path = idle.codespace.folder / "resolv.conf"
    with overlaid(idle.codespace, unpacked("musl")):
        lookup = built(idle.codespace, LOOKUP, "lookup", compiler="musl-gcc")
        assert b"ld-musl" in lookup.read_bytes()
        with changed(path, "nameserver 127.0.0.53\n" * 3):
            bridge = start(TARGET, "--ssh", "openssh").ready()
            names = ("www.corp.test", "v4only.corp.test", "v6only.corp.test", "nothing.corp.test", "www.public.test")
            for _attempt in range(5):
                output = idle.codespace.run(lookup, *names).check()
                assert [sorted(line.split()) for line in output.stdout.splitlines()] == [
                    sorted([names[0], CORP[4], CORP[6]]),
                    sorted([names[1], CORP[4]]),
                    sorted([names[2], CORP[6]]),
                    sorted([names[3], "unknown"]),
                    sorted([names[4], "203.0.113.80"]),
                ]
                assert output.seconds < 3
            nothing = dig(idle, "v4only.corp.test", "AAAA").stdout
            assert "status: NOERROR" in nothing
            assert "ANSWER: 0" in nothing
            found = idle.codespace.run("busybox", "nslookup", "v4only.corp.test")
            assert f"Address: {CORP[4]}" in found.stdout, found
            bridge.stop()
            assert path.read_text() == "nameserver 127.0.0.53\n" * 3


def test_failure_10_large_answers_come_by_tcp(idle: World, start: Start, vpn: str) -> None:
    """Above 512 bytes for a client without EDNS, above 1,232 for one with: TC, and then the whole by TCP."""
    (idle.laptop.folder / "resolv.conf").write_text(f"nameserver {vpn}\n")
    idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
    start(TARGET, "--ssh", "openssh").ready()

    def flags(*words: str) -> str:
        return dig(idle, "+ignore", *words).stdout.partition(";; flags:")[2].partition(";")[0]

    assert " tc" in flags("+noedns", "medium.vpn.test", "TXT")
    assert " tc" not in flags("+bufsize=1232", "medium.vpn.test", "TXT")
    assert " tc" in flags("+bufsize=4096", "many.vpn.test")
    for edns in ("+noedns", "+bufsize=512", "+bufsize=4096"):
        assert len(dig(idle, "+short", edns, "medium.vpn.test", "TXT").stdout.splitlines()) == 4
        assert len(dig(idle, "+short", edns, "many.vpn.test").stdout.splitlines()) == MANY
    known = idle.codespace.run("getent", "ahostsv4", "many.vpn.test").check().stdout
    assert len({line.split()[0] for line in known.splitlines()}) == MANY


def test_failure_11_unknown_name_is_one_nxdomain_and_delays_nobody(idle: World, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    unknown = [
        idle.codespace.start("dig", "+tries=1", "+time=5", f"unknown{number}.corp.test", log="unknown.log")
        for number in range(20)
    ]
    known = dig(idle, "+short", "v4only.corp.test")
    assert known.stdout == f"{CORP[4]}\n"
    assert known.seconds < 2
    assert all(program.wait(6) == 0 for program in unknown)
    assert (idle.codespace.folder / "unknown.log").read_text().count("status: NXDOMAIN") == 20
    assert counter(bridge, "dns.udp_queries") <= 40
    assert idle.codespace.run("getent", "hosts", "unknown.corp.test").code == 2


def test_failure_11_resolvers_that_ask_each_other_in_a_circle(idle: World, start: Start) -> None:
    """The codespace's own resolver asks whatever resolv.conf names, which is the stub, which asks that resolver."""
    circle = ["  do-not-query-localhost: no", "  domain-insecure: .", "  local-zone: test. transparent"]
    circle += ["forward-zone:", "  name: .", "  forward-addr: 127.83.0.1", "server:"]
    with ended(idle.codespace), changed(idle.codespace.folder / "resolv.conf", "nameserver 127.0.0.99\n"):
        servers.unbound(idle.codespace, ["127.0.0.99"], circle)
        wait_until(lambda: idle.codespace.answers("127.0.0.99", 53), "the second resolver")
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert dig(idle, "+short", "@127.0.0.99", "v4only.corp.test").stdout == f"{CORP[4]}\n", "this is no circle"
        unknown = ("nothing.corp.test", "what.ever.test")
        for name, expected in (("www.corp.test", "NOERROR"), *((name, "NXDOMAIN") for name in unknown)):
            asked = dig(idle, name)
            assert f"status: {expected}" in asked.stdout, asked.stdout
            assert asked.seconds < 1.5  # nobody waited for an answer to his own question
        assert counter(bridge, "dns.udp_queries") < 30
        assert idle.codespace.run("curl", "-sS", "-m5", "http://www.corp.test/small").stdout == "netbridge\n"
        bridge.stop()


@pytest.mark.parametrize("as_system", [True, False], ids=["of a system", "of a container"])
def test_failure_12_systemd_resolved_in_the_codespace(idle: World, start: Start, *, as_system: bool) -> None:
    """The real one, on a message bus of its own. Programs reach it by its stub, which resolv.conf names; on a system by
    NSS too, by which they never read resolv.conf: there it is told of the bridge, as long as the bridge lives."""
    codespace = idle.codespace

    def known(name: str) -> list[bool]:
        """To the C library, and to dig."""
        found = codespace.run("getent", "hosts", name), dig(idle, "+short", name)
        return [bool(output.stdout) for output in found]

    with resolved(codespace, cloud="127.0.0.98", stub="127.0.0.153", as_system=as_system):
        assert known("www.public.test") == [True, True]
        assert known("www.corp.test") == [False, False]
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert known("www.corp.test") == [True, True]
        assert known("www.public.test") == [True, True]
        assert codespace.run("curl", "-sS", "-m5", "http://www.corp.test/small").stdout == "netbridge\n"
        assert codespace.run("ping", "-c", "1", "-W", "2", "www.corp.test").code == 0
        told = codespace.run("resolvectl", "dns").stdout
        assert ("198.18.0.1" in told) == as_system, told
        bridge.stop()
        assert known("www.corp.test") == [False, False]
        assert known("www.public.test") == [True, True]
