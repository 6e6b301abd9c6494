"""`netbridge stack serve` and `dial`, held to account by the kernel beside them and its programs.

With `--no-offload` every packet is finished here, and scapy is the oracle for each one that was sent in a run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.utils import RawPcapNgReader

from tests.stack.fake import dissect, packed, rebuilt
from tests.world import Machine, Program
from tests.world.bridge import ROOT
from tests.world.machine import wait_until
from tests.world.servers import unprivileged

pytestmark = pytest.mark.net

STACK, KERNEL = "10.8.0.2", "10.8.0.1"
STACK6, KERNEL6 = "fd08::2", "fd08::1"
NETBRIDGE = (sys.executable, "-m", "netbridge")
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src")}
PORTS = {7, 9, 19, 80, 5201}
BIG = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    one = Machine("host", tmp_path_factory.mktemp("serve") / "host")
    one.boot()
    one.booted()
    web = one.folder / "web"
    (web / "sub").mkdir(parents=True)
    (web / "index.html").write_text("hello from the stack\n")
    (web / "big").write_bytes(BIG)
    (web / "sub" / "note.txt").write_text("a note\n")
    (web / "out").symlink_to("/etc/passwd")
    yield one
    one.close()


@contextmanager
def serving(machine: Machine, *more: str, tun: str = "nbs0") -> Iterator[Program]:
    """A served stack, from the moment that it says so."""
    log = f"serve-{tun}.log"
    (machine.folder / log).unlink(missing_ok=True)
    program = machine.start(*NETBRIDGE, "stack", "serve", "--tun", tun, *more, environment=ENVIRONMENT, log=log)

    def said() -> str:
        return (machine.folder / log).read_text()

    try:
        wait_until(lambda: "ping, iperf3" in said() or not program.running, "the stack", timeout=20)
        assert program.running, said()
        yield program
        assert program.running, said()
    finally:
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, said()
        assert "Traceback" not in said(), said()


@pytest.fixture(scope="module", params=["offload", "plain"])
def served(machine: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """What it is served with. Of `plain` every packet that it sent is looked at when all is over."""
    words = ["--address", f"{STACK}/24", "--address", f"{STACK6}/64", "--echo", "--http", str(machine.folder / "web")]
    pcap = machine.folder / "plain.pcapng"
    if request.param == "plain":
        words += ["--no-offload", "--pcap", str(pcap)]
    with serving(machine, *words):
        yield request.param
    if request.param == "plain":
        assert_well_made(pcap)


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"the program {program} is missing: scripts/system-packages test")
    return found


def assert_well_made(pcap: Path) -> None:
    """Every packet that the stack sent: the lengths it states, the options in the order Linux has, the checksums that
    scapy computes.
    """
    counted: Counter[str] = Counter()
    with RawPcapNgReader(str(pcap)) as records:
        for data, _ in records:
            sent = data[8:24] == packed(STACK6) if data[0] >> 4 == 6 else data[12:16] == packed(STACK)
            if sent:
                packet = dissect(data)
                counted[f"{packet.version}:{packet.lastlayer().name}"] += 1
                assert_packet(packet, data)
    assert sum(counted.values()) > 100, counted


def assert_packet(packet: Any, data: bytes) -> None:
    assert len(data) <= 1500
    assert rebuilt(packet) == data, f"{packet.summary()}\n{data.hex()}\n{rebuilt(packet).hex()}"
    if packet.version == 4:
        assert not packet.options, packet.summary()
        assert packet.ttl == 64
    else:
        assert packet.hlim == 64
    if TCP not in packet:
        return
    tcp = packet[TCP]
    assert not tcp.reserved
    assert not tcp.urgptr
    assert tcp.dataofs * 4 == 20 + sum(_length(option) for option in tcp.options)
    if tcp.flags.S:
        assert tcp.options[0] == ("MSS", 1500 - (40 if packet.version == 4 else 60))


def _length(option: Any) -> int:
    name, value = option
    fixed = {"NOP": 1, "EOL": 1, "MSS": 4, "WScale": 3, "SAckOK": 2, "Timestamp": 10}
    return fixed[name] if name in fixed else 2 + 4 * len(value)  # SAck


def test_ping(machine: Machine, served: str) -> None:
    for host in (STACK, STACK6):
        for size in ("0", "56", "1472", "9000"):
            out = machine.run("ping", "-c", "3", "-i", "0.05", "-s", size, "-W", "2", host).check().stdout
            assert " 0% packet loss" in out, out


def test_curl(machine: Machine, served: str) -> None:
    needed("curl")
    for host in (STACK, f"[{STACK6}]"):
        done = machine.run("curl", "-s", "--max-time", "10", f"http://{host}/", f"http://{host}/sub/note.txt").check()
        assert done.stdout == "hello from the stack\na note\n"
        done = machine.shell(f"curl -s --max-time 20 'http://{host}/big' | cmp - {machine.folder}/web/big")
        assert done.code == 0, done.stderr
    told = machine.run(
        "curl", "-sv", "--path-as-is", "--max-time", "10", f"http://{STACK}/../../etc/passwd", f"http://{STACK}/out",
        f"http://{STACK}/sub", f"http://{STACK}/none",
    )  # fmt: skip
    assert re.findall(r"< HTTP/1.1 (\d+)", told.stderr) == ["404", "404", "301", "404"]
    assert "Re-using existing connection" in told.stderr or "Re-using existing" in told.stderr
    assert "root:" not in told.stdout
    posted = machine.run("curl", "-s", "-w", "%{http_code}", "-d", "x", "-o", "/dev/null", f"http://{STACK}/").check()
    assert posted.stdout == "501"


def test_ab(machine: Machine, served: str) -> None:
    needed("ab")
    for options in (("-n", "600", "-c", "20"), ("-n", "1000", "-c", "10", "-k")):
        out = machine.run("ab", "-q", "-s", "20", *options, f"http://{STACK}/index.html", timeout=60).check().stdout
        assert re.search(r"Failed requests: +0\n", out), out
        assert f"Complete requests:      {options[1]}" in out
        assert "Non-2xx" not in out


@pytest.mark.parametrize("options", [(), ("-R",), ("-P", "3"), ("-R", "-P", "2"), ("-6",)], ids=" ".join)
def test_iperf3(machine: Machine, served: str, options: tuple[str, ...]) -> None:
    needed("iperf3")
    host = STACK6 if "-6" in options else STACK
    much = ("-n", "1M") if served == "plain" else ("-t", "1")  # of which scapy has to look at all
    out = machine.run("iperf3", "-c", host, "-J", *much, *options, timeout=40)
    told = json.loads(out.stdout)
    assert "error" not in told, told["error"]
    sent, received = told["end"]["sum_sent"]["bytes"], told["end"]["sum_received"]["bytes"]
    assert received >= 1_000_000
    assert received <= sent or "-R" in options
    assert told["end"]["sum_received"]["bits_per_second"] > 0


def test_iperf3_by_udp_is_told_that_it_is_not_there(machine: Machine, served: str) -> None:
    needed("iperf3")
    done = machine.run("iperf3", "-c", STACK, "-u", "-t", "1", timeout=20)
    assert done.code != 0
    assert "not implemented" in done.stdout + done.stderr


def test_nmap_connects(machine: Machine, served: str) -> None:
    needed("nmap")
    out = machine.run("nmap", "-n", "-Pn", "-sT", "-p", "1-100,5201", "-oG", "-", STACK, timeout=60).check().stdout
    assert {int(port) for port in re.findall(r"(\d+)/open/tcp", out)} == PORTS, out
    assert "closed (" in out, out  # the rest were refused, none filtered
    assert "filtered" not in out


def test_nmap_half_opens(machine: Machine, served: str) -> None:
    """-sS resets each half-open connection; the stack goes on as if nothing had been."""
    needed("nmap")
    for host, version in ((STACK, ()), (STACK6, ("-6",))):
        out = machine.run(
            "nmap", "-n", "-Pn", "-sS", *version, "-p", "1-200,5201", "-oG", "-", host, timeout=60,
        ).check().stdout  # fmt: skip
        assert {int(port) for port in re.findall(r"(\d+)/open/tcp", out)} == PORTS, out
    machine.run("curl", "-s", "--max-time", "5", "-o", "/dev/null", f"http://{STACK}/").check()


def test_nmap_looks_for_the_system(machine: Machine, served: str) -> None:
    """-O sends what no sane peer sends; it wants an open and a closed port, and sequence numbers nobody can guess."""
    needed("nmap")
    out = machine.run(
        "nmap", "-n", "-Pn", "-O", "-v", "-p", "80,81", "--max-os-tries", "1", STACK, timeout=100,
    ).check().stdout  # fmt: skip
    assert "80/tcp open" in out
    assert "81/tcp closed" in out
    difficulty = re.search(r"TCP Sequence Prediction: Difficulty=(\d+)", out)
    if difficulty is not None:  # said only when the fingerprint could be made
        assert int(difficulty[1]) > 200, out
    machine.run("curl", "-s", "--max-time", "5", "-o", "/dev/null", f"http://{STACK}/").check()


def test_nmap_by_udp(machine: Machine, served: str) -> None:
    needed("nmap")
    out = machine.run(
        "nmap", "-n", "-Pn", "-sU", "--data-length", "8", "-p", "7,9", "-oG", "-", STACK, timeout=60,
    ).check().stdout  # fmt: skip
    assert "7/open/udp" in out, out
    assert "9/closed/udp" in out, out


def test_echo_discard_and_source(machine: Machine, served: str) -> None:
    needed("nc")
    data = os.urandom(300_000)
    (machine.folder / "random").write_bytes(data)
    done = machine.shell(f"nc -N {STACK} 7 <{machine.folder}/random | cmp - {machine.folder}/random", timeout=30)
    assert done.code == 0, done.stderr
    machine.shell(f"nc -N {STACK} 9 <{machine.folder}/random", timeout=30).check()
    done = machine.shell(f"nc {STACK} 19 </dev/null | head -c 3000000 | wc -c", timeout=30).check()
    assert done.stdout.strip() == "3000000"


# -- an exit


def test_an_exit_reaches_what_this_machine_reaches(machine: Machine) -> None:
    """A second network of the machine, which the TUN is routed to, is reached through the stack, and comes back by
    the machine's own sockets.
    """
    needed("curl")
    machine.shell("ip addr add 192.168.1.1/24 dev lo").check()
    server = machine.start(
        sys.executable, "-m", "http.server", "80", "--bind", "192.168.1.1", "--directory", str(machine.folder / "web"),
        log="http.log",
    )  # fmt: skip
    wait_until(lambda: machine.answers("192.168.1.1", 80), "http.server")
    # 192.168.2.1 is not of this machine: only the stack's exit could lead there, and it is told not to.
    with serving(machine, "--address", "10.6.0.2/24", "--exit", "--route", "192.168.1.0/24", tun="nbs1"):
        machine.shell("ip rule add to 192.168.1.1 ipproto tcp dport 80 uidrange 4242-4242 lookup 77 pref 0; "
                      "ip route add 192.168.0.0/16 dev nbs1 src 10.6.0.1 table 77").check()  # fmt: skip
        machine.shell("ip route add 192.168.2.0/24 dev nbs1").check()
        as_other = ("setpriv", "--reuid=4242", "--clear-groups")
        done = machine.run(*as_other, "curl", "-s", "--max-time", "10", "http://192.168.1.1/").check()
        assert done.stdout == "hello from the stack\n"
        log = (machine.folder / "http.log").read_text()
        assert '"GET / HTTP/1.1" 200' in log
        denied = machine.run("curl", "-s", "-S", "--max-time", "5", "http://192.168.2.1/")
        assert denied.code == 7, denied.stderr
        asked = machine.run("dig", "+short", "+time=5", "+tries=1", "@10.6.0.2", "host")
        assert asked.code == 0, asked.stdout
    server.kill()
    machine.shell("ip addr del 192.168.1.1/24 dev lo; ip rule del pref 0 lookup 77").check()


def test_nothing_goes_round_in_a_circle(machine: Machine) -> None:
    """What is routed to the TUN and would leave by a socket of the same machine would come back by the TUN."""
    needed("curl")
    with serving(machine, "--address", "10.5.0.2/24", "--exit", tun="nbs2"):
        machine.shell("ip route add 192.168.3.0/24 dev nbs2").check()
        for host in ("192.168.3.1", "10.5.0.77"):  # the other is of the network between both, never forwarded
            done = machine.run("curl", "-sS", "--max-time", "20", f"http://{host}/", timeout=30)
            assert done.code == 7, done.stderr
            assert done.seconds < 10
        assert not machine.shell("ss -Htn state syn-sent").stdout
        pinged = machine.run("ping", "-c", "1", "-W", "2", "192.168.3.1")
        assert "filtered" in pinged.stdout.lower() or "prohibited" in pinged.stdout.lower(), pinged.stdout


# -- without root, and dialling


def test_without_root_on_a_device_that_was_made_for_the_user(machine: Machine) -> None:
    user = unprivileged()
    machine.shell(
        f"ip tuntap add dev nbu0 mode tun user {user} && ip addr add 10.9.0.1/24 dev nbu0 && ip link set nbu0 up"
    ).check()
    as_user = ("setpriv", f"--reuid={user}", "--clear-groups", "--inh-caps=-all")
    words = ("stack", "serve", "--tun", "nbu0", "--address", "10.9.0.2/24")
    program = machine.start(*as_user, *NETBRIDGE, *words, environment=ENVIRONMENT, log="user.log")
    wait_until(lambda: "ping, iperf3" in (machine.folder / "user.log").read_text() or not program.running, "the stack")
    assert program.running, (machine.folder / "user.log").read_text()
    machine.run("ping", "-c", "1", "-W", "2", "10.9.0.2").check()
    second = machine.run(*as_user, *NETBRIDGE, *words, environment=ENVIRONMENT)
    assert second.code == 1
    assert "Name another one, or end who uses it." in second.stderr
    machine.shell("ip link del nbu0")
    assert program.wait() == 1
    assert "went away" in (machine.folder / "user.log").read_text()
    for name, addresses, told in (
        ("nbu1", ["10.9.1.2/24"], "sudo ip tuntap add dev nbu1 mode tun user"),
        ("nbu2", ["10.9.2.2/24"], "sudo ip addr add 10.9.2.1/24 dev nbu2"),
    ):
        if name == "nbu2":
            machine.shell(f"ip tuntap add dev nbu2 mode tun user {user} && ip link set nbu2 up").check()
        done = machine.run(
            *as_user, *NETBRIDGE, "stack", "serve", "--tun", name, "--address", *addresses, environment=ENVIRONMENT,
        )  # fmt: skip
        assert done.code == 4, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_dial(machine: Machine) -> None:
    needed("nc")
    server = machine.start("nc", "-l", "-N", KERNEL.replace("8", "7", 1), "7777", log="nc.log")
    dial = ("stack", "dial", "--tun", "nbd0", "--address", "10.7.0.2/24")
    refused = machine.run(*NETBRIDGE, *dial, "10.7.0.1", "7776", environment=ENVIRONMENT)
    assert refused.code == 3, refused.stderr
    assert "10.7.0.1 port 7776 was not reached." in refused.stderr
    server.kill()
    machine.shell("ip tuntap add dev nbd0 mode tun && ip addr add 10.7.0.1/24 dev nbd0 && ip link set nbd0 up").check()
    server = machine.start(
        sys.executable, "-c",
        "import socket\n"
        "s = socket.create_server(('10.7.0.1', 7777)); c, _ = s.accept(); d = b''\n"
        "while x := c.recv(65536): d += x\n"
        "c.sendall(d[::-1]); c.close()\n",
        log="reverse.log",
    )  # fmt: skip
    wait_until(lambda: machine.listens(7777), "the server")
    data = os.urandom(400_000).hex().encode()
    done = machine.run(*NETBRIDGE, *dial, "10.7.0.1", "7777", environment=ENVIRONMENT, stdin=data)
    assert done.code == 0, done.stderr
    assert done.stdout.encode() == data[::-1]
    assert server.wait() == 0
    for words, told in ((("example.com", "80"), "numeric"), (("10.7.0.1", "0"), "port")):
        wrong = machine.run(*NETBRIDGE, *dial, *words, environment=ENVIRONMENT)
        assert wrong.code == 2, wrong.stderr
        assert told in wrong.stderr
