"""Whatever is wrong ends in three sentences and the right exit code; nothing hangs and nothing is left behind."""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, CORP, HTTP_PORT, LAPTOP, REDIS_PORT, SSH_PORT
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot
from tests.world.sshd import find_python

from .conftest import TARGET
from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
both_ssh = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])


def at(user: str, port: int = SSH_PORT) -> str:
    return f"ssh://{user}@{CODESPACE[4]}:{port}"


def assert_fails(bridge: Bridge, code: int, *words: str, within: float = 20.0) -> None:
    """It ends in time with this exit code, and says why in one record of three sentences that hold one of `words`."""
    assert bridge.ended(within) == code, bridge.said
    failed = [record for record in bridge.events if record["event"] == "failed"]
    assert len(failed) == 1, bridge.said
    assert failed[0]["exit_code"] == code
    sentences = f"{failed[0]['what']} {failed[0]['why']} {failed[0]['todo']}"
    assert failed[0]["what"].endswith(".") and failed[0]["why"].endswith("."), sentences
    assert not words or any(word.lower() in sentences.lower() for word in words), sentences
    assert "Traceback" not in bridge.said, bridge.said


TARGETS = {
    # what is wrong: (target, exit code, one of these words is said)
    "no such host": ("ssh://root@nothing.corp.test", 3, ("nothing.corp.test",)),
    "port closed": (at("root", 2299), 3, ("refused",)),
    "no route": ("ssh://root@192.0.2.1", 3, ("unreachable", "route")),
    "wrong key": ("ssh://wrongkey", 4, ("key", "permission", "publickey")),
    "no such user": (at("nobodyhere"), 4, ("nobodyhere", "permission", "key")),
    "host key unknown": ("ssh://stranger", 4, ("host key",)),
    "host key changed": ("ssh://impostor", 4, ("host key",)),
    "no python3": (at("nopython"), 5, ("python3",)),
    "python 3.6": (at("python36"), 5, ("3.6",)),
    "python 2.7": (at("python27"), 5, ("2.7",)),
    "no sudo": (at("nosudo"), 5, ("sudo",)),
    "no /dev/net/tun": (at("notun"), 5, ("/dev/net/tun",)),
    "no CAP_NET_ADMIN": (at("nonetadmin"), 5, ("NET_ADMIN",)),
}


@both_ssh
@pytest.mark.parametrize("wrong", list(TARGETS))
def test_targets(idle: World, start: Start, wrong: str, ssh: str) -> None:
    target, code, words = TARGETS[wrong]
    capture = ("--capture", "tun") if "tun" in wrong or "NET_ADMIN" in wrong else ()  # there is another way otherwise
    for version in ("3.6", "2.7"):
        if version in wrong and not find_python(version):
            pytest.skip(f"there is no Python {version} on this machine")
    before = Snapshot.of(idle.codespace)
    assert_fails(start(target, "--ssh", ssh, *capture), code, *words)
    assert_restored(before, idle.codespace, 5)


@pytest.mark.parametrize(
    ("target", "code"), [("gopher://codespace", 2), ("ssh://", 2), ("ssh://-oProxyCommand=id", 2), ("ssh://a:99999", 2)]
)
def test_nonsense_targets(start: Start, target: str, code: int) -> None:
    assert_fails(start(target), code)


@pytest.mark.parametrize(
    "options", [("--route", "10.0.0.0/33"), ("--mtu", "20"), ("--dns", "maybe"), ("--deny", "10.0.0.0/8:http")]
)
def test_nonsense_options(start: Start, options: tuple[str, ...]) -> None:
    bridge = start(TARGET, *options)
    assert bridge.ended() == 2, bridge.said
    assert "Traceback" not in bridge.said


GOOD = {
    "an ordinary user with sudo": at("codespace"),
    "a greeting shell": at("noisy"),
    "an alias of ~/.ssh/config": "ssh://codespace",
    "a ProxyCommand": "ssh://proxied",
    "IPv6": f"ssh://root@[{CODESPACE[6]}]:{SSH_PORT}",
}


@both_ssh
@pytest.mark.parametrize("target", list(GOOD))
def test_targets_that_work(idle: World, start: Start, target: str, ssh: str) -> None:
    before = Snapshot.of(idle.codespace)
    bridge = start(GOOD[target], "--ssh", ssh).ready()
    for version in (4, 6):
        idle.codespace.connect(CORP[version], HTTP_PORT).close()
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace, 5)


class Doorman:
    """Listens on the codespace and does `what` with whoever comes."""

    def __init__(self, world: World, what: Callable[[socket.socket], None]) -> None:
        self._what = what
        self._listener = world.codespace.listen(CODESPACE[4])
        self.port: int = self._listener.getsockname()[1]
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            self._kept.append(connection)
            try:
                self._what(connection)
            except OSError:
                pass

    def __enter__(self) -> Doorman:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        for connection in self._kept:
            connection.close()


def hang_up(connection: socket.socket) -> None:
    connection.close()


def banner_and_hang_up(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    connection.recv(1000)
    connection.close()


def noise(connection: socket.socket) -> None:
    connection.sendall(random.Random(1).randbytes(100_000))
    connection.close()


@both_ssh
@pytest.mark.parametrize("what", [hang_up, banner_and_hang_up, noise])
def test_target_closes_in_mid_handshake(
    idle: World, start: Start, ssh: str, what: Callable[[socket.socket], None]
) -> None:
    with Doorman(idle, what) as door:
        assert_fails(start(at("root", door.port), "--ssh", ssh), 3)


@pytest.mark.slow
def test_target_that_never_answers(idle: World, start: Start) -> None:
    """Both at once, as each waits for half a minute."""
    with Doorman(idle, lambda _connection: None) as door, Doorman(idle, lambda _connection: None) as other:
        waiting = [start(at("root", door.port), "--ssh", "openssh"), start(at("root", other.port), "--ssh", "asyncssh")]
        for bridge in waiting:
            assert_fails(bridge, 3, within=60)


@pytest.mark.parametrize("command", ["false", "sh -c 'exit 7'", "head -c 100", "no-such-program-anywhere"])
def test_commands_that_are_no_shell(start: Start, command: str) -> None:
    bridge = start(f"exec:{command}")
    code = bridge.ended(60)
    assert code in {1, 2, 3, 5}, bridge.said
    assert_fails(bridge, code)


SABOTEUR = """
import os, select, subprocess, sys, time
evil = bytes.fromhex(sys.argv[1])
shell = subprocess.Popen(["ssh", "-T", "codespace", *sys.argv[2:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
inward, outward = shell.stdin.fileno(), shell.stdout.fileno()
seen, struck, strike_at = b"", False, None
sources = [0, outward]
while outward in sources:
    ready, _, _ = select.select(sources, [], [], 0.05)
    if 0 in ready:
        data = os.read(0, 65536)
        if data:
            while data:
                data = data[os.write(inward, data):]
        else:
            os.close(inward)
            sources.remove(0)
    if outward in ready:
        data = os.read(outward, 65536)
        if not data:
            break
        seen = (seen + data)[-200000:]
        try:
            while data:
                data = data[os.write(1, data):]
        except BrokenPipeError:  # the session has heard enough; the agent hears of that
            pass
        if b'"ready"' in seen and strike_at is None:
            strike_at = time.monotonic() + 0.5
    if strike_at and not struck and not ready and time.monotonic() > strike_at:
        struck = True
        os.write(1, evil)
"""

EVIL_FRAMES = {
    "unknown type": b"\x2a\x00\x00\x01x",
    "type zero": b"\x00\x00\x00\x00",
    "control too long": b"\x02\xff\xff\xff",
    "control not json": b"\x02\x00\x00\x05{nope",
    "control a list": b"\x02\x00\x00\x02[]",
    "control without type": b"\x02\x00\x00\x02{}",
    "packet without header": b"\x01\x00\x00\x03abc",
    "ack of what was never sent": b"\x03\x00\x00\x08" + b"\x7f" * 8,
    "ack too short": b"\x03\x00\x00\x02ab",
    "ping too short": b"\x04\x00\x00\x01a",
}
EVIL_PACKETS = {
    "packet of zeros": b"\x01\x00\x00\x1e" + bytes(30),
    "packet with a lying header": b"\x01\x00\x00\x1e"
    + struct.pack("<BBHHHH", 1, 1, 65535, 65535, 65535, 65535)
    + b"\x45"
    + bytes(19),
    "empty IP packet": b"\x01\x00\x00\x0a" + bytes(10),
}


@pytest.mark.parametrize("evil", [*EVIL_FRAMES, *EVIL_PACKETS])
def test_agent_sends_garbage(idle: World, start: Start, evil: str) -> None:
    """A broken frame ends the bridge with a sentence; a broken packet in a sound frame may also be dropped."""
    script = idle.laptop.folder / "saboteur.py"
    script.write_text(SABOTEUR)
    before = Snapshot.of(idle.codespace)
    data = {**EVIL_FRAMES, **EVIL_PACKETS}[evil]
    bridge = start(f"exec:{sys.executable} {script} {data.hex()}").ready(30)
    if evil in EVIL_FRAMES:
        assert_fails(bridge, 1)
    else:
        time.sleep(1.0)
        if bridge.program.running:
            idle.codespace.connect(CORP[4], HTTP_PORT).close()
            assert bridge.stop() == 0
        else:
            assert_fails(bridge, 1)
    assert_restored(before, idle.codespace)


def mutations(count: int, source: str, source6: str) -> list[bytes]:
    """Random bytes, and sound packets with a few bytes changed, some cut short."""
    dice = random.Random(7)
    address, corp = socket.inet_aton(source), socket.inet_aton(CORP[4])
    address6, corp6 = socket.inet_pton(socket.AF_INET6, source6), socket.inet_pton(socket.AF_INET6, CORP[6])
    tcp = struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
    udp = struct.pack("!HHHH", 4000, 53, 12, 0) + b"data"
    icmp = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"data"
    sound = []
    for number, body in ((6, tcp), (17, udp), (1, icmp), (47, b"gre?")):
        sound.append(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, number, 0) + address + corp + body)
        sound.append(
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0x2001, 64, number, 0) + address + corp + body
        )
    for number, body in (
        (6, tcp),
        (17, udp),
        (58, icmp),
        (0, bytes(8) + tcp),
        (44, struct.pack("!BBHI", 6, 0, 9, 1) + tcp),
    ):
        sound.append(struct.pack("!IHBB", 0x60000000, len(body), number, 64) + address6 + corp6 + body)
    packets = []
    for _number in range(count):
        packet = bytearray(dice.choice(sound) if dice.random() < 0.8 else dice.randbytes(dice.randrange(1, 200)))
        for _change in range(dice.randrange(4)):
            packet[dice.randrange(len(packet))] = dice.randrange(256)
        if dice.random() < 0.2:
            packet = packet[: dice.randrange(1, len(packet) + 1)]
        packets.append(bytes(packet))
    return packets


@both_ssh
def test_garbage_on_the_tun(idle: World, start: Start, ssh: str) -> None:
    """Whatever somebody in the codespace writes into the TUN is dropped and counted; the bridge goes on."""
    bridge = start(TARGET, "--ssh", ssh).ready()
    connected = bridge.event("connected")
    assert connected
    source, source6 = (
        network.split("/")[0] for network in sorted(connected["addresses"], key=lambda text: ":" in text)
    )
    raw = idle.codespace.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
    with raw:
        for packet in mutations(3000, source, source6):
            protocol = 0x86DD if packet[0] >> 4 == 6 else 0x0800
            try:
                raw.sendto(packet, (connected["tun"], protocol))
            except OSError:
                continue  # the device's queue is full
    for version in (4, 6):
        idle.codespace.connect(CORP[version], HTTP_PORT).close()
    assert bridge.program.running, bridge.said
    assert "Traceback" not in bridge.said, bridge.said
    assert bridge.stop() == 0


def test_resolver_that_is_down(idle: World, start: Start) -> None:
    """Names fail in bounded time, all else works; when the resolver is named anew, names work without a restart."""
    path = idle.laptop.folder / "resolv.conf"
    good = path.read_text()
    before = Snapshot.of(idle.codespace)
    try:
        path.write_text("nameserver 10.98.0.3\noptions timeout:1 attempts:1\n")
        bridge = start().ready()
        idle.codespace.connect(CORP[4], HTTP_PORT).close()
        begun = time.monotonic()
        output = idle.codespace.run("dig", "+tries=1", "+time=15", "www.corp.test", timeout=20)
        assert "10.99.0.2" not in output.stdout
        assert time.monotonic() - begun < 16
        path.write_text(good)
        wait_until(
            lambda: idle.codespace.run("dig", "+short", "+tries=1", "+time=2", "www.corp.test").stdout == "10.99.0.2\n",
            "names to resolve again",
            15,
            0.3,
        )
        assert bridge.stop() == 0
    finally:
        path.write_text(good)
    assert_restored(before, idle.codespace)


def syn(source: str, destination: str, port: int) -> bytes:
    """An IP packet with a TCP SYN and sound checksums."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)

    def checksum(data: bytes) -> int:
        total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return ~total & 0xFFFF

    header = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 0x50, 2, 65535, 0, 0)
    tcp = header[:16] + struct.pack("!H", checksum(ends + struct.pack("!HH", 6, len(header)) + header)) + header[18:]
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 0x60000000, len(tcp), 6, 64) + ends + tcp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0)
    return head[:10] + struct.pack("!H", checksum(head + ends)) + ends + tcp


def test_loopback_and_metadata_are_denied(idle: World, start: Start) -> None:
    """Not even what is routed or written into the TUN by hand reaches the laptop's loopback or metadata service."""
    bridge = start().ready()
    connected = bridge.event("connected")
    assert connected
    tun = connected["tun"]
    source, source6 = (it.split("/")[0] for it in sorted(connected["addresses"], key=lambda text: ":" in text))
    idle.laptop.ip("addr add 169.254.169.254/32 dev lo")
    idle.codespace.ip(f"route add 169.254.169.254/32 dev {tun}", f"route add 64:ff9b::/96 dev {tun}")
    try:
        with idle.laptop.listen("0.0.0.0") as listener, idle.laptop.listen("::", 0) as listener6:
            port, port6 = listener.getsockname()[1], listener6.getsockname()[1]
            for host in ("169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"):
                begun = time.monotonic()
                with pytest.raises(OSError, match=r"No route to host|Permission denied|unreachable"):
                    idle.codespace.connect(host, port, timeout=3)
                assert time.monotonic() - begun < 1, host
            with idle.codespace.inside(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)) as raw:
                for host in ("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.0.0.1"):
                    raw.sendto(syn(source, host, port), (tun, 0x0800))
                for host in ("::1", "::", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "fe80::1", "::127.0.0.1"):
                    raw.sendto(syn(source6, host, port6), (tun, 0x86DD))
                with idle.corp.listen(CORP[4]) as sound:  # a packet made alike does arrive
                    raw.sendto(syn(source, CORP[4], sound.getsockname()[1]), (tun, 0x0800))
                    sound.settimeout(3)
                    sound.accept()[0].close()
            for silent in (listener, listener6):
                silent.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    silent.accept()
    finally:
        idle.laptop.ip("addr del 169.254.169.254/32 dev lo")
    assert bridge.event("flow_denied"), bridge.said


def test_deny_and_exclude(idle: World, start: Start) -> None:
    """--deny refuses a destination at once, --exclude leaves a network to the codespace's own routes."""
    start(TARGET, "--deny", f"{CORP[4]}/32:{REDIS_PORT}", "--exclude", "fd99::/64").ready()
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    begun = time.monotonic()
    with pytest.raises(OSError):
        idle.codespace.connect(CORP[4], REDIS_PORT, timeout=5)
    assert time.monotonic() - begun < 1
    assert "nb" not in idle.codespace.run("ip", "-6", "route", "get", CORP[6]).stdout


def test_what_carries_the_tunnel_is_never_captured(idle: World, start: Start) -> None:
    """With --all everything goes through the bridge but the SSH connection itself and what the codespace sits on."""
    bridge = start(TARGET, "--all").ready()
    connected = bridge.event("connected")
    assert connected
    idle.codespace.connect(CORP[4], HTTP_PORT).close()
    for host, captured in (
        (CORP[4], True),
        ("203.0.113.9", True),
        (LAPTOP[4], False),
        ("172.17.0.5", False),
        ("169.254.169.254", False),
    ):
        route = idle.codespace.run("ip", "route", "get", host).stdout
        assert (f"dev {connected['tun']}" in route) == captured, (host, route)
    assert bridge.stop() == 0


def test_agent_is_not_installed(idle: World, start: Start) -> None:
    """No file of the agent is in the codespace while it runs, apart from its socket."""
    script = "find /tmp /run /dev/shm ~codespace ~root -type f ! -path '/run/sudo/*' | sort"
    before = idle.codespace.shell(script).stdout
    start(at("codespace")).ready()
    assert idle.codespace.shell(script).stdout == before
