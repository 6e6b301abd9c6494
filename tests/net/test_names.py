"""Split DNS with real servers: who is asked for which name, and that it follows the laptop while the bridge stands.

corp has an unbound for corp.test and, on an address that is a VPN's, one for vpn.test; the codespace has a dnsmasq that
writes down what it is asked; the laptop asks corp, by resolv.conf or through systemd-resolved.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.world import Bridge, Machine, World, servers
from tests.world.addresses import CORP
from tests.world.machine import wait_until

from .conftest import TARGET
from .programs import BUS, changed, dig, ended, overlaid, unpacked
from .watch import counter

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
OWN = "127.0.0.77"
"""The codespace's dnsmasq."""
VPN = "10.96.0.1"
IN_TIME = 2.0
"""Seconds in which a change here is known over there."""


class Own:
    """The codespace's own nameserver, and what it was asked."""

    def __init__(self, codespace: Machine) -> None:
        self.codespace = codespace

    def serve(self, *options: str) -> None:
        self.codespace.start(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
            f"--listen-address={OWN}", "--bind-interfaces", "--log-queries", "--log-facility=-", "--pid-file=",
            "--host-record=www.public.test,203.0.113.80", *options, log="dnsmasq.log",
        )
        wait_until(lambda: self.codespace.answers(OWN, 53), "dnsmasq")

    def was_asked(self, name: str) -> bool:
        """In whatever spelling."""
        return f"] {name} from" in (self.codespace.folder / "dnsmasq.log").read_text().lower()

    def is_passed_over(self, name: str) -> bool:
        """It is not asked for this name, as its answer comes from here: in milliseconds, where `netbridge status` takes
        a second of a busy machine."""
        (self.codespace.folder / "dnsmasq.log").write_text("")
        answer = dig(self.codespace, name, "PTR" if name.endswith(".arpa") else "A")
        return "status: NOERROR" in answer.stdout and not self.was_asked(name)


@pytest.fixture
def own(idle: World) -> Iterator[Own]:
    """dnsmasq as the codespace's only nameserver; it denies whatever it does not know."""
    if not shutil.which("dnsmasq"):
        pytest.skip("needs dnsmasq (package dnsmasq-base)")
    made = Own(idle.codespace)
    (idle.codespace.folder / "dnsmasq.log").unlink(missing_ok=True)
    with ended(idle.codespace, "dnsmasq"), changed(idle.codespace.folder / "resolv.conf", f"nameserver {OWN}\n"):
        made.serve("--address=/#/")
        yield made


@pytest.fixture
def vpn(idle: World) -> Iterator[str]:
    """A network of corp with a resolver of its own, to which the laptop has no route yet."""
    idle.corp.ip(f"addr add {VPN}/32 dev lo")
    zone = ["  local-zone: vpn.test. static", "  local-zone: routed.test. static"]
    zone += [f"  local-data: '{name}.test. A {VPN}'" for name in ("wiki.vpn", "wiki.routed")]
    zone += ["  local-zone: 96.10.in-addr.arpa. static", "  local-data: '1.0.96.10.in-addr.arpa. PTR wiki.vpn.test.'"]
    with ended(idle.corp):
        servers.unbound(idle.corp, [VPN], zone)
        wait_until(lambda: idle.corp.answers(VPN, 53), "the VPN's resolver")
        yield VPN
    idle.corp.ip(f"addr del {VPN}/32 dev lo")
    idle.laptop.run("ip", "route", "del", "10.96.0.0/24")


def comes_up(world: World) -> None:
    """The laptop gets a route to the VPN."""
    world.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")


@contextmanager
def resolved_here(laptop: Machine) -> Iterator[None]:
    """systemd-resolved as the laptop's resolver, with corp's nameserver on the link to corp, as a desktop has it."""
    if not shutil.which("dbus-daemon") or not shutil.which("busctl"):
        pytest.skip("needs dbus-daemon and busctl (packages dbus-daemon, systemd)")
    etc, folder = laptop.folder / "etc", laptop.folder
    with ExitStack() as exits:
        exits.enter_context(overlaid(laptop, unpacked("resolved")))
        laptop.shell("mount -t tmpfs tmpfs /run").check()
        exits.callback(lambda: laptop.shell("umount -l /run").check())
        passwd, group = (etc / "passwd").read_text(), (etc / "group").read_text()
        if "systemd-resolve" not in passwd:
            user = "systemd-resolve:x:990:990::/:/usr/sbin/nologin\n"
            exits.enter_context(changed(etc / "passwd", passwd + user))
            exits.enter_context(changed(etc / "group", group + "systemd-resolve:x:990:\n"))
        settings = "[Resolve]\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n"
        exits.enter_context(changed(etc / "systemd/resolved.conf", settings))
        exits.enter_context(changed(folder / "resolv.conf", "nameserver 127.0.0.53\noptions edns0\nsearch .\n"))
        exits.enter_context(ended(laptop))
        (folder / "bus.conf").write_text(BUS)
        laptop.shell(
            "mkdir -p /run/dbus /run/systemd/resolve && chown systemd-resolve:systemd-resolve /run/systemd/resolve"
        ).check()
        laptop.start("dbus-daemon", "--nofork", f"--config-file={folder}/bus.conf", log="bus.log")
        wait_until(lambda: laptop.shell("test -S /run/dbus/system_bus_socket").code == 0, "the message bus")
        laptop.start("/usr/lib/systemd/systemd-resolved", log="resolved.log")
        wait_until(lambda: laptop.answers("127.0.0.53", 53), "systemd-resolved")
        laptop.run("resolvectl", "dns", "eth1", CORP[4]).check()
        laptop.run("resolvectl", "domain", "eth1", "corp.test").check()
        yield


def soon(check: Callable[[], object], what: str) -> None:
    """`check` becomes true in time; counted from now."""
    since = time.monotonic()
    wait_until(check, what, 10, 0.02)
    assert time.monotonic() - since < IN_TIME, what


def suffixes(bridge: Bridge) -> list[str]:
    """What is asked here first."""
    return list(bridge.status()["dns"]["suffixes"])


def told(bridge: Bridge) -> list[str]:
    """What the bridge said last of them."""
    return list((bridge.event("dns") or {})["suffixes"])


# --- who is asked -----------------------------------------------------------------------------------------------------


def test_private_suffixes_are_asked_here_first_and_all_others_over_there(idle: World, own: Own, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    assert dig(idle.codespace, "+short", "www.corp.test").stdout == f"{CORP[4]}\n"
    assert not own.was_asked("www.corp.test")
    asked = counter(bridge, "dns.udp_queries")
    assert dig(idle.codespace, "+short", "www.public.test").stdout == "203.0.113.80\n"
    assert own.was_asked("www.public.test")
    assert counter(bridge, "dns.udp_queries") == asked


def test_a_suffix_named_by_dns_domain_is_asked_here_first(idle: World, own: Own, start: Start) -> None:
    """Even if the codespace has a name like it: here it does not exist, and then the codespace's word counts."""
    bridge = start(TARGET, "--ssh", "openssh", "--dns-domain", "public.test").ready()
    assert dig(idle.codespace, "+short", "www.public.test").stdout == "203.0.113.80\n"
    assert counter(bridge, "dns.no_such_name") == 1


@pytest.mark.parametrize("trouble", ["NXDOMAIN", "REFUSED", "silence"])
def test_what_the_codespaces_nameservers_cannot_resolve_is_asked_here(
    idle: World, own: Own, vpn: str, start: Start, trouble: str
) -> None:
    """By a name of no private suffix. dnsmasq without anybody to ask refuses; with one who is silent it is, too."""
    comes_up(idle)
    laptops = idle.laptop.folder / "resolv.conf"
    with ended(idle.codespace, "dnsmasq"), changed(laptops, f"nameserver {vpn}\n"), idle.codespace.udp(OWN) as deaf:
        if trouble != "NXDOMAIN":
            idle.codespace.run("pkill", "dnsmasq")
            wait_until(lambda: not idle.codespace.answers(OWN, 53), "dnsmasq's end")
            own.serve(*([f"--server={OWN}#{deaf.getsockname()[1]}"] if trouble == "silence" else []))
        start(TARGET, "--ssh", "openssh").ready()
        found = dig(idle.codespace, "wiki.vpn.test")
        assert f"A\t{vpn}" in found.stdout, found
        assert own.was_asked("wiki.vpn.test")
        assert (found.seconds > 1) == (trouble == "silence")
        assert found.seconds < 3


def test_dns_all_asks_here_alone_and_off_nobody_here(idle: World, own: Own, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh", "--dns", "all").ready()
    assert "NXDOMAIN" in dig(idle.codespace, "www.public.test").stdout
    assert not own.was_asked("www.public.test")
    bridge.stop()
    start(TARGET, "--ssh", "openssh", "--dns", "off").ready()
    assert dig(idle.codespace, "+short", "www.public.test").stdout == "203.0.113.80\n"
    assert "NXDOMAIN" in dig(idle.codespace, "www.corp.test").stdout


def test_no_data_stays_no_data(idle: World, own: Own, start: Start) -> None:
    start(TARGET, "--ssh", "openssh").ready()
    for name in ("v4only.corp.test", "www.public.test"):
        answer = dig(idle.codespace, name, "AAAA").stdout
        assert "status: NOERROR" in answer
        assert "ANSWER: 0" in answer


def test_reverse_lookups_of_captured_networks_are_asked_here_first(
    idle: World, own: Own, vpn: str, start: Start
) -> None:
    """Of networks that are captured later, too."""
    bridge = start(TARGET, "--ssh", "openssh").ready()
    for address in CORP.values():
        assert dig(idle.codespace, "+short", "-x", address).stdout == "www.corp.test.\n"
    assert not own.was_asked("2.0.99.10.in-addr.arpa")
    assert idle.codespace.run("getent", "hosts", CORP[4]).stdout.split()[1] == "www.corp.test"
    with changed(idle.laptop.folder / "resolv.conf", f"nameserver {vpn}\n"):
        comes_up(idle)
        soon(lambda: own.is_passed_over("1.0.96.10.in-addr.arpa"), "the captured network's reverse name")
        assert "0.96.10.in-addr.arpa" in suffixes(bridge)
        assert dig(idle.codespace, "+short", "-x", vpn).stdout == "wiki.vpn.test.\n"
        assert not own.was_asked("1.0.96.10.in-addr.arpa")


# --- changes while the bridge stands ----------------------------------------------------------------------------------


def test_a_search_domain_that_comes_into_resolv_conf_works_over_there(
    idle: World, own: Own, vpn: str, start: Start
) -> None:
    """Names below it are asked here first, short ones work as they do here; gone, they do no more."""
    laptops = idle.laptop.folder / "resolv.conf"
    usual = laptops.read_text()
    bridge = start(TARGET, "--ssh", "openssh").ready()
    assert idle.codespace.run("getent", "hosts", "www").stdout.split()[0] == CORP[6]
    assert idle.codespace.run("getent", "hosts", "wiki").code == 2
    with changed(laptops, usual):
        comes_up(idle)
        laptops.write_text(f"nameserver {vpn}\nnameserver {CORP[4]}\nsearch vpn.test corp.test\n")
        soon(lambda: idle.codespace.run("getent", "hosts", "wiki").stdout.startswith(vpn), "the short name")
        assert suffixes(bridge)[:2] == ["vpn.test", "corp.test"]
        names = bridge.status()["dns"]
        assert (names["private"], names["nameservers"]) == (["vpn.test", "corp.test"], [vpn, CORP[4]])
        wait_until(lambda: told(bridge) == ["vpn.test", "corp.test"], "the line that tells them")
        assert not own.was_asked("wiki.vpn.test")
    soon(lambda: "vpn.test" not in (idle.codespace.folder / "resolv.conf").read_text(), "its end")
    wait_until(lambda: told(bridge) == ["corp.test"], "the line that tells its end")
    assert idle.codespace.run("getent", "hosts", "wiki").code == 2


def test_a_vpn_that_tells_systemd_resolved_its_domains_works_over_there(
    idle: World, own: Own, vpn: str, start: Start
) -> None:
    """A link of its own with its own nameserver, one domain that is searched and one that only routes."""
    laptop, codespace = idle.laptop, idle.codespace
    with resolved_here(laptop):
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert codespace.run("getent", "hosts", "www").stdout.split()[0] == CORP[6]
        assert "corp.test" in suffixes(bridge)
        assert "NXDOMAIN" in dig(codespace, "wiki.routed.test").stdout
        assert own.was_asked("wiki.routed.test")
        idle._veth(laptop, "tun7", idle.corp, "tun7")  # resolved asks a link's nameserver through the link alone
        try:
            idle.corp.ip("link set tun7 up", "route add 10.96.0.2/32 dev tun7")
            laptop.ip("addr add 10.96.0.2/24 dev tun7", "link set tun7 up")
            laptop.run("resolvectl", "dns", "tun7", vpn).check()
            laptop.run("resolvectl", "domain", "tun7", "vpn.test", "~routed.test").check()
            wait_until(lambda: dig(laptop, "+short", "wiki.routed.test").stdout, "the laptop's own view")
            soon(lambda: own.is_passed_over("wiki.routed.test"), "its domains")
            assert {"vpn.test", "routed.test"} <= set(suffixes(bridge))
            (codespace.folder / "dnsmasq.log").write_text("")
            assert dig(codespace, "+short", "wiki.routed.test").stdout == f"{vpn}\n"
            assert dig(codespace, "+short", "wiki.vpn.test").stdout == f"{vpn}\n"
            assert codespace.run("getent", "hosts", "wiki").stdout.startswith(vpn)
            assert not own.was_asked("wiki.routed.test")
            assert not own.was_asked("wiki.vpn.test")
        finally:
            laptop.ip("link del tun7")
        soon(lambda: codespace.run("getent", "hosts", "wiki").code == 2, "their end")
        wait_until(lambda: not {"vpn.test", "routed.test"} & set(suffixes(bridge)), "their end in status")
        assert "NXDOMAIN" in dig(codespace, "wiki.routed.test").stdout
        bridge.stop()


def test_answers_are_forgotten_when_the_laptops_network_changes(idle: World, own: Own, start: Start) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()

    def asked() -> int:
        assert dig(idle.codespace, "+short", "www.corp.test").stdout == f"{CORP[4]}\n"
        return counter(bridge, "dns.asked")

    first = asked()
    assert asked() == first  # from the cache
    idle.laptop.ip("link add other type veth peer name end", "addr add 10.95.0.1/24 dev other")
    idle.laptop.ip("link set other up", "link set end up")
    try:
        wait_until(lambda: "10.95.0.0/24" in bridge.status()["routes"], "the captured network", 10, 0.05)
        assert asked() == first + 1
    finally:
        idle.laptop.ip("link del other")
