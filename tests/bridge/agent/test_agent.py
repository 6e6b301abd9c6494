"""A running agent: what it sets up, and that everything is as before when it is gone, however it went."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from netbridge.bridge.agent.frames import MAX_PACKET, PACKET, control_frame, frame_header
from netbridge.bridge.bootstrap import AgentHandle, AgentOptions, launch
from netbridge.bridge.errors import BridgeError, TargetLacksError, TargetUnreachableError
from netbridge.bridge.firststage import agent_code, command

from .channels import LocalTransport
from .conftest import RESOLV_CONF, SETUP, Place

pytestmark = pytest.mark.net


def show(enter: list[str], *command: str) -> str:
    return subprocess.run([*enter, *command], check=True, capture_output=True, text=True).stdout


async def until(condition: Callable[[], bool], what: str, seconds: float = 5) -> None:
    for _ in range(int(seconds * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"not within {seconds} s: {what}")


class Taker:
    """A link's user that keeps the packets."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.lost: list[Exception | None] = []

    def packet_received(self, packet: memoryview) -> None:
        self.packets.append(bytes(packet))

    def burst_ended(self) -> None:
        pass

    def link_ready(self) -> None:
        pass

    def link_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


async def test_hello_tells_where_it_runs(place: Place) -> None:
    interface = "ip link add eth0 type bridge; ip addr add 10.3.0.5/16 dev eth0; ip link set eth0 up;"
    agent = await place.agent(before=interface)
    hello, facts = agent.hello, agent.hello["facts"]
    assert hello["protocol"] == 1
    assert hello["uid"] == 0
    assert hello["host"] == socket.gethostname()
    assert hello["kernel"] == os.uname().release
    assert facts["subnets"] == ["10.3.0.0/16"]
    assert facts["nameservers"] == ["127.99.0.1"]
    assert facts["search"] == ["old.example"]
    assert facts["ipv6"] is True
    await agent.stop()
    assert agent.lost
    assert await agent.channel.wait_closed() == 0


async def test_setup_then_stop_leaves_nothing(place: Place) -> None:
    agent = await place.agent(before="ip link set lo up;")
    enter = place.enter(agent)
    before = show(enter, "ip", "addr"), show(enter, "ip", "route"), show(enter, "ip", "-6", "route")
    ready = await agent.setup(SETUP)
    assert ready["tun"] == "nb0"
    assert ready["offload"] is True
    assert ready["routes"] == ["10.0.0.0/8", "fd00:9::/32"]
    assert ready["skipped"] == []
    assert ready["dns"] is True
    assert ready["listen"] == "127.83.0.1"
    assert agent.link.offload
    assert agent.link.mtu == 1500
    assert "10.0.0.0/8 dev nb0" in show(enter, "ip", "route")
    assert "LOOPBACK,UP" in show(enter, "ip", "link", "show", "lo")
    assert "nameserver 127.83.0.1\n" in show(enter, "cat", "/etc/resolv.conf")
    await agent.stop()
    assert (show(enter, "ip", "addr"), show(enter, "ip", "route"), show(enter, "ip", "-6", "route")) == before
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_loopback_is_brought_up_and_down_again(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    assert "LOOPBACK,UP" not in show(enter, "ip", "link", "show", "lo")
    await agent.setup({**SETUP, "loopback_up": False, "dns": {**SETUP["dns"], "mode": "off"}})
    assert "LOOPBACK,UP" not in show(enter, "ip", "link", "show", "lo")
    await agent.stop()
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    assert "LOOPBACK,UP" in show(enter, "ip", "link", "show", "lo")
    await agent.stop()
    assert "LOOPBACK,UP" not in show(enter, "ip", "link", "show", "lo")


async def test_routes_change_while_it_runs(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    changed = await agent.change_routes(["192.168.0.0/16", "127.0.0.0/8"], ["192.168.1.0/24"])
    assert "192.168.0.0/24" in changed["routes"]
    assert "192.168.128.0/17" in changed["routes"]
    assert changed["skipped"] == [{"route": "127.0.0.0/8", "reason": "it is loopback"}]
    table = show(enter, "ip", "route")
    assert "10.0.0.0/8" not in table
    assert "192.168.1.0/24" not in table
    assert "dev nb0" in show(enter, "ip", "route", "get", "192.168.0.1")
    await agent.stop()


async def ended(agent: AgentHandle, place: Place, enter: list[str]) -> None:
    await until(lambda: "nb0" not in show(enter, "ip", "link"), "the TUN is gone")
    assert "10.0.0.0/8" not in show(enter, "ip", "route")
    await until(lambda: place.resolv_conf.read_bytes() == RESOLV_CONF, "resolv.conf is as before")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
async def test_a_signal_undoes_everything(place: Place, number: signal.Signals) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    lost: list[Exception | None] = []
    agent.on_lost = lost.append
    os.kill(agent.hello["pid"], number)
    await ended(agent, place, enter)
    await until(lambda: bool(lost), "the session is told")


async def test_killing_the_whole_process_group_leaves_the_guardian(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    os.killpg(os.getpgid(agent.hello["pid"]), signal.SIGKILL)
    await ended(agent, place, enter)


async def test_the_end_of_stdin_undoes_everything(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    agent.close()
    await ended(agent, place, enter)
    assert await agent.channel.wait_closed() == 0


async def test_the_next_start_heals_what_even_the_guardian_left(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    children = show([], "pgrep", "-P", str(agent.hello["pid"])).split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    os.kill(agent.hello["pid"], signal.SIGKILL)
    await agent.channel.wait_closed()
    assert b"127.83.0.1" in place.resolv_conf.read_bytes()
    following = await place.agent()
    assert following.hello["facts"]["nameservers"] == ["127.99.0.1"]
    assert place.resolv_conf.read_bytes() == RESOLV_CONF
    await following.stop()


async def test_the_guardian_holds_nothing_but_its_pipe(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    (guardian,) = show([], "pgrep", "-P", str(agent.hello["pid"])).split()
    await until(lambda: show([], "cat", f"/proc/{guardian}/comm") == "netbridge-guard\n", "the guardian is there")
    held = {os.readlink(f"/proc/{guardian}/fd/{number}").split(":")[0] for number in os.listdir(f"/proc/{guardian}/fd")}
    assert held == {"/dev/null", "pipe"}
    assert os.getsid(int(guardian)) == int(guardian)
    await agent.stop()
    assert not os.path.exists(f"/proc/{guardian}")


async def test_packets_come_and_go(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    taker = Taker()
    agent.link.start(taker)
    ping = await asyncio.create_subprocess_exec(*enter, "ping", "-c1", "-W3", "10.1.2.3", stdout=subprocess.DEVNULL)
    await until(lambda: any(packet[10] == 0x45 for packet in taker.packets), "the echo request came")
    request = next(packet for packet in taker.packets if packet[10] == 0x45)
    assert socket.inet_ntoa(request[22:26]) == "198.18.5.2"
    assert socket.inet_ntoa(request[26:30]) == "10.1.2.3"
    icmp = bytearray(request[30:])
    icmp[0] = 0  # echo reply; the checksum grows by what the type lost
    icmp[2:4] = struct.pack(">H", (struct.unpack(">H", icmp[2:4])[0] + 0x0800) % 0xFFFF)
    reply = request[:22] + request[26:30] + request[22:26]
    agent.link.send(reply, bytes(icmp))
    assert await ping.wait() == 0
    assert agent.framed.counters.packets_out == 1
    assert 0 < await agent.ping() < 5
    await agent.stop()
    assert taker.lost == [None]


async def test_what_the_kernel_does_not_take_is_dropped_and_the_agent_goes_on(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    odd = bytes(30), b"\xff" * 30, bytes(10) + b"\x45" + bytes(60), b"\x01\x04" + b"\xff" * 100, bytes(MAX_PACKET)
    for junk in odd:
        agent.link.send(junk)
    await agent.ping()
    agent.link.send(bytes(MAX_PACKET + 1))
    assert agent.framed.counters.oversized == 1
    await agent.ping()
    await agent.stop()


@pytest.mark.parametrize(
    "junk",
    [frame_header(9, 1) + b"x", frame_header(PACKET, MAX_PACKET + 1), frame_header(3, 8) + b"\xff" * 8,
     frame_header(2, 2) + b"[]", b"GET / HTTP/1.1\r\n\r\n"],
)  # fmt: skip
async def test_malformed_frames_end_the_agent_and_undo_everything(place: Place, junk: bytes) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    agent.channel.write((junk,))
    await ended(agent, place, enter)
    assert await agent.channel.wait_closed() == 1
    assert "netbridge agent: " in agent.channel.diagnostics()
    assert "Traceback" not in agent.channel.diagnostics()


@pytest.mark.parametrize(
    ("change", "why"),
    [({"addresses": ["nonsense"]}, "nonsense"), ({"mtu": "many"}, "many"), ({"dns": None}, "NoneType"),
     ({"routes": None}, "NoneType"), ({"addresses": ["198.18.5.2/30", "198.18.5.2/30"]}, "File exists"),
     ({"mtu": 10}, "Invalid argument")],
)  # fmt: skip
async def test_a_setup_that_fails_half_way_is_undone(place: Place, change: dict[str, Any], why: str) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    with pytest.raises(BridgeError, match=why):
        await agent.setup({**SETUP, **change})
    assert "nb0" not in show(enter, "ip", "link")
    assert place.resolv_conf.read_bytes() == RESOLV_CONF
    assert (await agent.setup(SETUP))["dns"] is True
    with pytest.raises(BridgeError, match="setup already"):
        await agent.setup(SETUP)
    assert "nb0" in show(enter, "ip", "link")
    await agent.stop()


async def test_without_dns_resolv_conf_is_not_touched(place: Place) -> None:
    agent = await place.agent()
    ready = await agent.setup({**SETUP, "dns": {**SETUP["dns"], "mode": "off"}})
    assert ready["dns"] is False
    assert place.resolv_conf.read_bytes() == RESOLV_CONF
    await agent.stop()


async def test_a_read_only_resolv_conf_costs_the_dns_and_not_the_bridge(place: Place) -> None:
    agent = await place.agent(before="mount -o remount,bind,ro /etc/resolv.conf;")
    ready = await agent.setup(SETUP)
    assert ready["dns"] is False
    assert "Read-only" in ready["dns_reason"]
    assert ready["listen"] == "127.83.0.1"  # for who asks it all the same
    await agent.stop()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_a_tun_that_is_taken_away_is_told(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    agent.on_lost = lost.set_result
    show(enter, "ip", "link", "del", "nb0")
    assert "interface over there is gone" in str(await asyncio.wait_for(lost, 10))
    await agent.channel.wait_closed()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_the_name_that_is_taken_is_named(place: Place) -> None:
    agent = await place.agent(before="ip link add nb0 type bridge;")
    with pytest.raises(BridgeError, match="nb0") as caught:
        await agent.setup(SETUP)
    assert caught.value.exit_code == 1
    assert "remove the interface" in caught.value.todo
    await agent.stop()


async def test_without_the_device_node_it_is_made(place: Place) -> None:
    agent = await place.agent(before="mount -t tmpfs none /dev/net;")
    assert (await agent.setup(SETUP))["tun"] == "nb0"
    await agent.stop()


@pytest.mark.parametrize(
    ("before", "drop", "what"),
    [
        ("mount -t tmpfs none /dev/net;", "mknod", "no usable /dev/net/tun"),
        ("mount -t tmpfs none /dev/net; touch /dev/net/tun;", "mknod", "no usable /dev/net/tun"),
        ("", "net_admin", "does not permit a network interface"),
    ],
)
async def test_what_the_container_lacks_is_said_with_the_lines_to_add(
    place: Place, before: str, drop: str, what: str
) -> None:
    drop_it = ("setpriv", f"--bounding-set=-{drop}", f"--inh-caps=-{drop}")
    agent = await place.agent(before="ip link set lo up; " + before, then=drop_it)
    with pytest.raises(TargetLacksError, match=what) as caught:
        await agent.setup(SETUP)
    assert caught.value.exit_code == 5
    assert '"runArgs": ["--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun"]' in caught.value.todo
    assert "cap_add" in caught.value.todo
    await agent.stop()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_an_agent_that_dies_during_setup_is_a_target_that_went_away(place: Place) -> None:
    agent = await place.agent()
    os.kill(agent.hello["pid"], signal.SIGSTOP)
    asking = asyncio.ensure_future(agent.setup(SETUP))
    await asyncio.sleep(0.05)
    os.kill(agent.hello["pid"], signal.SIGKILL)
    with pytest.raises(TargetUnreachableError, match="went away during `setup`"):
        await asking
    with pytest.raises(TargetUnreachableError, match="went away"):
        await agent.change_routes([], [])


async def test_a_session_that_does_not_read_gets_no_more_than_the_window(place: Place) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    agent.channel._loop.remove_reader(agent.channel._in)  # type: ignore[attr-defined]
    flood = "import socket,time\ns=socket.socket(2,2)\nfor i in range(12000):\n s.sendto(bytes(1400),('10.0.0.9',9))\n"
    show(enter, sys.executable, "-c", flood)
    await asyncio.sleep(0.2)
    status = show([], "cat", f"/proc/{agent.hello['pid']}/status")
    dropped = json.loads(show(enter, "ip", "-j", "-s", "link", "show", "nb0"))[0]["stats64"]["tx"]["dropped"]
    assert dropped > 1000
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 64 * 1024, f"{peak} KiB"
    agent.close()
    await ended(agent, place, enter)


async def test_stdout_is_out_of_reach_of_prints(place: Place) -> None:
    agent = await place.agent()
    pid = agent.hello["pid"]
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/1") == os.readlink(f"/proc/{pid}/fd/2")
    await agent.stop()


async def test_the_tun_is_handed_over(place: Place) -> None:
    here, there = socket.socketpair()
    words = [*place.transport().prefix, "sh", "-c", command("00")]
    process = subprocess.Popen(words, stdin=there.fileno(), stdout=there.fileno())
    there.close()
    here.settimeout(10)
    try:
        here.sendall(agent_code())
        seen = b""
        while b"hello" not in seen:
            seen += here.recv(65536)
        here.sendall(control_frame({"type": "setup", **SETUP, "pass_tun": True}))
        answer, rights, _flags, _address = socket.recv_fds(here, 65536, 4)
        assert b'"ready"' in answer
        (tun,) = rights
        os.set_blocking(tun, False)
        enter = ["nsenter", "-t", str(json.loads(seen[seen.index(b"{") :])["pid"]), "-n", "-m"]
        show(enter, "sh", "-c", "ping -c1 -W0.1 10.9.9.9 || true")
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.append(os.read(tun, 70000))
        assert any(packet[10] == 0x45 for packet in packets)
        assert "10.0.0.0/8" in show(enter, "ip", "route")
        os.close(tun)
        assert "nb0" not in show(enter, "ip", "link"), "the agent kept a copy"
    finally:
        here.close()
        assert process.wait(10) == 0
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_a_resolv_conf_written_anew_by_somebody_else_is_joined_and_left_as_they_want_it(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    place.resolv_conf.write_bytes(b"nameserver 127.99.0.7\n")
    await until(lambda: place.resolv_conf.read_bytes().startswith(b"# netbridge: head"), "it is edited again", 8)
    assert b"nameserver 127.83.0.1\n" in place.resolv_conf.read_bytes()
    await agent.stop()
    assert place.resolv_conf.read_bytes() == b"nameserver 127.99.0.7\n"


async def test_a_session_that_falls_silent_leaves_nothing_captured(place: Place) -> None:
    """A laptop that lost its power closes nothing: the agent has to notice by itself."""
    agent = await place.agent()
    await agent.setup({**SETUP, "silence": 0.5})
    assert await asyncio.wait_for(agent.channel.wait_closed(), 10) == 0
    assert "nothing was heard" in agent.channel.diagnostics()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_a_session_that_speaks_is_kept(place: Place) -> None:
    agent = await place.agent()
    await agent.setup({**SETUP, "silence": 0.5})
    for _ in range(8):
        await asyncio.sleep(0.15)
        await agent.ping()
    await agent.stop()


async def test_routes_of_another_bridge_are_named(place: Place) -> None:
    agent = await place.agent(
        before="ip tuntap add nb7 mode tun; ip link set nb7 up; ip route add 10.20.0.0/16 dev nb7;"
    )
    ready = await agent.setup({**SETUP, "routes": ["10.20.0.0/16", "10.40.0.0/16"]})
    assert ready["routes"] == ["10.40.0.0/16"]
    assert ready["skipped"] == [
        {"route": "10.20.0.0/16", "reason": "another bridge holds it, by nb7", "holder": "nb7"}
    ]
    await agent.stop()


async def test_a_bridge_that_gets_nothing_leaves_the_names_of_the_other_alone(place: Place) -> None:
    first = await place.agent()
    await first.setup({**SETUP, "routes": ["10.20.0.0/16"]})
    edited = place.resolv_conf.read_bytes()
    second = await launch(LocalTransport(place.enter(first)), options=AgentOptions(timeout=10))
    with pytest.raises(BridgeError, match="Another bridge holds"):
        await second.setup({**SETUP, "tun": "nb1", "addresses": ["198.18.9.2/30"], "routes": ["10.20.0.0/16"]})
    second.close()
    await second.channel.wait_closed()
    assert place.resolv_conf.read_bytes() == edited
    await first.stop()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_a_named_host_inside_the_targets_own_network_is_captured(place: Place) -> None:
    docker = "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up;"
    agent = await place.agent(before=docker)
    ready = await agent.setup({**SETUP, "routes": ["172.17.0.0/16"], "explicit": ["172.17.9.9/32"]})
    assert ready["routes"] == ["172.17.9.9/32"]
    assert [item["route"] for item in ready["skipped"]] == ["172.17.0.0/16"]
    await agent.stop()


async def test_a_start_heals_leftovers_but_not_what_a_living_bridge_wrote(place: Place) -> None:
    left = b"# netbridge: head (put back when the bridge ends)\nnameserver 127.83.0.9\n# netbridge: original\n"
    tail = b"\n# netbridge: tail of a file without a last newline\n# netbridge: end\n"
    place.resolv_conf.write_bytes(left + RESOLV_CONF + tail)
    agent = await place.agent()
    await agent.ping()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF
    await agent.setup(SETUP)
    edited = place.resolv_conf.read_bytes()
    second = await launch(LocalTransport(place.enter(agent)), options=AgentOptions(timeout=10))
    await second.ping()
    assert place.resolv_conf.read_bytes() == edited
    second.close()
    await second.channel.wait_closed()
    await agent.stop()
