"""Resolvers that ask each other in a circle through the stub, by real programs: bounded, answered, and nobody else
waits. (A circle of unbound is known failure 11.)"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CODESPACE_RESOLVER, CORP
from tests.world.machine import Output, wait_until

from .conftest import TARGET
from .programs import changed, ended, resolved
from .watch import counter

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PUBLIC = "203.0.113.80"


def dnsmasq(machine: Machine, address: str, *options: str) -> Path:
    """dnsmasq on one address; the file that gets a line for each question. It asks what /etc/resolv.conf names."""
    if not shutil.which("dnsmasq", path="/usr/sbin:/usr/bin"):
        pytest.skip("needs dnsmasq (package dnsmasq-base)")
    log = machine.folder / "dnsmasq.log"
    log.write_text("")
    machine.start(
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--bind-interfaces",
        f"--listen-address={address}", "--log-facility=-", "--log-queries", "--no-hosts", "--pid-file=", "--no-daemon",
        "--no-poll",
        *options, log="dnsmasq.log",
    )  # fmt: skip
    wait_until(lambda: machine.answers(address, 53), "dnsmasq")
    return log


def reread(machine: Machine, log: Path) -> None:
    """Let dnsmasq look at resolv.conf. It would by itself, but not where the file is a mount of its own, as here."""
    for pid, words in machine.processes().items():
        if words.startswith("dnsmasq "):
            os.kill(pid, signal.SIGHUP)
    wait_until(lambda: "using nameserver 127.83.0.1#53" in log.read_text(), "the circle")


def dig(world: World, name: str, *words: str) -> Output:
    return world.codespace.run("dig", "+tries=1", "+time=9", name, *words)


def status(output: Output) -> str:
    found = re.search(r"status: (\w+)", output.stdout)
    return found.group(1) if found else "none"


@pytest.fixture
def codespaces(idle: World) -> Iterator[Path]:
    """The codespace's own nameserver is a dnsmasq that asks what resolv.conf names, and so the stub, once it is there;
    public names it gets elsewhere."""
    address = "127.0.0.99"
    with ended(idle.codespace), changed(idle.codespace.folder / "resolv.conf", f"nameserver {address}\n"):
        yield dnsmasq(
            idle.codespace, address, f"--server=/public.test/{CODESPACE_RESOLVER}", "--resolv-file=/etc/resolv.conf"
        )


def test_dnsmasq_that_asks_the_first_nameserver(idle: World, start: Start, codespaces: Path) -> None:
    bridge = start(TARGET, "--ssh", "openssh").ready()
    reread(idle.codespace, codespaces)
    for server in ((), ("@127.0.0.99",)):  # asked by way of the stub, and by itself
        for number, (name, expected) in enumerate((
            ("v4only.corp.test", "NOERROR"), ("www.public.test", "NOERROR"), ("nothing.corp.test", "NXDOMAIN"),
            ("what.ever.test", "NXDOMAIN"),
        )):  # fmt: skip
            asked = dig(idle, name, *server)
            assert status(asked) == expected, (name, asked.stdout, number)
            assert asked.seconds < 1.5  # nobody waits for himself
    assert f"forwarded what.ever.test to {CORP[4]}" not in codespaces.read_text()
    assert codespaces.read_text().lower().count("query[a] what.ever.test") <= 3
    assert counter(bridge, "dns.udp_queries") < 30
    idle.codespace.run("curl", "-sS", "-m5", "http://www.corp.test/small").check()
    assert bridge.stop() == 0


def test_this_machines_resolver_asks_the_codespace(idle: World, start: Start) -> None:
    """The laptop's only nameserver is one in the codespace, which asks what resolv.conf names: the stub, which asks the
    laptop. What the codespace knows is answered at once, what nobody knows fails once, and nobody else waits."""
    laptops = idle.laptop.folder / "resolv.conf"
    with ended(idle.codespace), changed(laptops, f"nameserver {CODESPACE[4]}\n"):
        log = dnsmasq(idle.codespace, CODESPACE[4], "--resolv-file=/etc/resolv.conf", "--cache-size=0")
        start(TARGET, "--ssh", "openssh").ready()
        reread(idle.codespace, log)
        unknown = idle.codespace.start("dig", "+tries=1", "+time=15", "nothing.at-all.test", log="circle.log")
        known = dig(idle, "www.public.test", "+short")
        assert known.stdout == f"{PUBLIC}\n"
        assert known.seconds < 1
        assert unknown.wait(20) == 0
        said = (idle.codespace.folder / "circle.log").read_text()
        assert "status: NXDOMAIN" in said or "status: SERVFAIL" in said, said
        assert log.read_text().lower().count("query[a] nothing.at-all.test") <= 6


def test_systemd_resolved_that_asks_the_first_nameserver(idle: World, start: Start) -> None:
    """It has no nameserver of its own but what resolv.conf names, among them the stub, once it is there."""
    codespace = idle.codespace
    with resolved(codespace, cloud="127.0.0.98", stub="127.0.0.153", as_system=False):
        settings = codespace.folder / "etc/systemd/resolved.conf"
        resolv = codespace.folder / "resolv.conf"
        usual = settings.read_text()
        with changed(settings, usual.replace("DNS=127.0.0.98\n", "", 1)), changed(
            resolv, "nameserver 127.0.0.98\nnameserver 127.0.0.153\n"
        ):
            pid = next(pid for pid, words in codespace.processes().items() if words.endswith("systemd-resolved"))
            codespace.shell("kill $(pidof systemd-resolved)").check()
            wait_until(lambda: pid not in codespace.processes(), "its end")
            codespace.start("/usr/lib/systemd/systemd-resolved", log="resolved.log")
            wait_until(lambda: codespace.answers("127.0.0.153", 53), "systemd-resolved")
            bridge = start(TARGET, "--ssh", "openssh").ready()
            wait_until(
                lambda: "127.83.0.1" in codespace.run("resolvectl", "dns").stdout
                or codespace.shell("resolvectl query -4 v4only.corp.test").code == 0, "the circle",
            )  # fmt: skip
            for server in ((), ("@127.0.0.153",)):
                assert status(dig(idle, "v4only.corp.test", *server)) == "NOERROR"
                assert status(dig(idle, "www.public.test", *server)) == "NOERROR"
                asked = dig(idle, "what.ever.test", *server)
                assert status(asked) == "NXDOMAIN", asked.stdout
            assert counter(bridge, "dns.udp_queries") < 40
            assert bridge.stop() == 0
