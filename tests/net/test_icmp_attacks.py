"""No ping reply that was not asked for, no harm by errors that the codespace forges, and never too many of our own."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from scapy.compat import raw
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6Unknown
from scapy.packet import Packet, Raw

from netbridge.stack.icmp.limit import BURST, RATE
from tests.world import Bridge, Machine, World
from tests.world.addresses import CORP, SILENT
from tests.world.bridge import as_person, python_for_everybody

from .conftest import CONTROL, Through
from .forging import (
    ABSURD,
    EXPIRED,
    FAMILY,
    HARD,
    PORT,
    TOO_BIG,
    Wire,
    echo,
    error,
    exchange,
    ip,
    is_request,
    lies,
    meet,
    udp_client,
)
from .test_path_tools import complaints, gateway

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])

Start = Callable[..., Bridge]


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mute(world: World, version: int) -> Iterator[None]:
    """Corp's kernel answers no ping."""
    file = {4: "ipv4/icmp_echo_ignore_all", 6: "ipv6/icmp/echo_ignore_all"}[version]
    world.corp.shell(f"echo 1 > /proc/sys/net/{file}").check()
    yield
    world.corp.shell(f"echo 0 > /proc/sys/net/{file}").check()


@both
def test_only_the_true_reply_comes_back(through: Through, wire: Wire, mute: None, version: int) -> None:
    """Longer than what was asked, of another identifier, from another host: not to the codespace."""
    if through.transport == CONTROL:
        pytest.skip("the laptop's own ping believes some of these")
    program = through.start("ping", f"-{version}", "-n", "-c", "1", "-s", "16", "-W", "1", CORP[version], log="one.log")
    log = through.machine.folder / "one.log"
    before = len(log.read_text())
    request = wire.hear(lambda packet: is_request(packet, CORP[version]))
    number, sequence = request[echo(version)].id, request[echo(version)].seq
    data = raw(request)[-16:]

    def reply(identifier: int, payload: bytes, by: str = CORP[version]) -> Packet:
        head = ip(version, by, request.src)
        if version == 4:
            return head / ICMP(type=0, id=identifier, seq=sequence) / Raw(payload)
        return head / ICMPv6EchoReply(id=identifier, seq=sequence, data=payload)

    wire.say(
        reply(number, data + b"!"), reply(number, data + bytes(600)), reply(number ^ 1, data),
        reply(number, data, SILENT[version]),
    )  # fmt: skip
    time.sleep(0.1)
    assert "bytes from" not in log.read_text()[before:]
    wire.say(reply(number, data))
    assert program.wait(5) == 0
    printed = log.read_text()[before:]
    assert re.findall(r"^\d+ bytes from.*$", printed, re.MULTILINE)[0].startswith("24 bytes from")
    assert "1 packets transmitted, 1 received, 0% packet loss" in printed


# --- from the codespace to the stack ----------------------------------------------------------------------------------


@both
def test_the_codespaces_errors_harm_no_flow(through: Through, world: World, version: int) -> None:
    """Root there forges errors about everything that the stack sends: true and wrong ones, cut ones and nested ones."""
    if through.bridge is None:
        pytest.skip("there is no stack")
    with (
        Wire(through.inside, version, "nb0") as tun,
        world.corp.listen(CORP[version]) as listener,
        world.corp.udp(CORP[version]) as peer,
        udp_client(through, version, peer.getsockname()[:2]) as asker,
    ):
        peer.settimeout(5)
        listener.settimeout(5)
        with through.connect(*listener.getsockname()[:2]) as client, listener.accept()[0] as server:
            for end in (client, server):
                end.settimeout(5)
            server.sendall(b"from corp")
            assert client.recv(100) == b"from corp"
            here = meet(asker, peer)
            segment = tun.hear(lambda packet: TCP in packet and raw(packet).endswith(b"from corp"))
            datagram = tun.hear(lambda packet: UDP in packet and raw(packet).endswith(b"answer"))
            following = segment.copy()
            following[TCP].seq += len(b"from corp")
            own, foreign = (
                [
                    error(says, quoted, mtu=ABSURD if says is TOO_BIG else 0, at=at)
                    for quoted in about
                    for says in (*HARD, TOO_BIG, EXPIRED)
                    for at in ("", CORP[version])
                    if quoted.dst != (at or quoted.src)
                ]
                for about in ((segment, following, datagram), (*lies(segment), *lies(datagram)))
            )
            for number in range(0, 70, 3):  # cut short, checksum right
                whole = error(PORT, segment)
                data = raw(segment)[:number]
                head = ip(version, whole.src, whole.dst)
                tun.say(
                    head / ICMP(type=3, code=3) / Raw(data) if version == 4
                    else head / ICMPv6Unknown(type=1, code=4, msgbody=bytes(4) + data)
                )  # fmt: skip
            tun.say(*foreign, *(error(PORT, one) for one in foreign[:20]))
            exchange(client, server)
            peer.sendto(b"unasked", here)
            assert asker.recv(100) == b"unasked"
            tun.say(*own)  # of these one is heeded: the codespace says that its UDP socket is closed
            exchange(client, server)
            meet(asker, peer)
    assert through.bridge.program.running
    assert "Traceback" not in through.bridge.said


def refusals(codespace: Machine, version: int, host: str) -> tuple[int, float]:
    """Port unreachables for 3,000 datagrams to closed ports within a second, and seconds until the last of them."""
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    ear = codespace.inside(lambda: socket.socket(FAMILY[version], socket.SOCK_RAW, protocol))
    mouth = codespace.inside(lambda: socket.socket(FAMILY[version], socket.SOCK_DGRAM))
    with ear, mouth:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        ear.settimeout(0.5)
        begun = last = time.monotonic()
        for number in range(3000):
            mouth.sendto(b"x", (host, 20_000 + number))
            if (ahead := begun + number / 3000 - time.monotonic()) > 0.01:
                time.sleep(ahead)
        count = 0
        try:
            while True:
                message = ear.recv(2000)
                count += message[20:22] == b"\3\3" if version == 4 else message[:2] == b"\1\4"
                last = time.monotonic()
        except TimeoutError:
            return count, last - begun


def test_errors_are_limited(idle: World, start: Start) -> None:
    """As many as the bucket holds and refills, no more, be they the bridge's own or a host's."""
    bridge = start().ready()
    withheld = 0
    for version, host in ((4, gateway(bridge, 4)[0]), (6, CORP[6])):
        count, seconds = refusals(idle.codespace, version, host)
        assert 500 < count < BURST + RATE * seconds + 150, f"{count} in {seconds:.2f} s"
        withheld += 3000 - count
    assert bridge.status()["counters"]["icmp"]["errors_limited"] == withheld


# --- a laptop that may not ping ---------------------------------------------------------------------------------------


def test_ping_without_permission(idle: World, start: Start) -> None:
    """An ordinary user of a kernel without ICMP sockets for them: told once how to mend it, and ping is refused."""
    python = python_for_everybody()
    if not python:
        pytest.skip("ordinary users may not run this Python, and there is no other of its version")
    groups = "/proc/sys/net/ipv4/ping_group_range"
    idle.laptop.shell(f"echo '1 0' > {groups}").check()
    try:
        bridge = start("ssh://mine", "--ssh", "openssh", prefix=as_person(idle.laptop, python)).ready()
        for version, words in ((4, "Packet filtered"), (6, "Destination unreachable: Administratively prohibited")):
            output = idle.codespace.run("ping", f"-{version}", "-n", "-c", "2", "-i", "0.1", "-W", "1", CORP[version])
            assert {said for _who, said in complaints(output)} == {words}, output.stdout
            assert output.code == 1
            with idle.codespace.connect(CORP[version], 80):
                pass
        assert bridge.said.count("net.ipv4.ping_group_range") == 1
    finally:
        idle.laptop.shell(f"echo '0 2147483647' > {groups}").check()
