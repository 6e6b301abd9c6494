"""The life of a session on a fake target: order, ends, failures, time bounds, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from netbridge.bridge import capturing, events, runtime
from netbridge.bridge.control import ask, statuses
from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError, UsageError
from netbridge.bridge.routes import Interface, LocalNetworks, LocalNetworksError, Route, Snapshot
from netbridge.bridge.session import KILLED
from tests.bridge.fake_target import HELLO, FakeTarget
from tests.bridge.life import Life, QuietNetworks


@pytest.fixture(name="runtime_folder", autouse=True)
def own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _quiet_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)


async def test_a_bridge_starts_and_stops_in_order(runtime_folder: Path) -> None:
    life = Life(FakeTarget(), route=("10.77.0.0/16",))
    life.when[events.Ready] = lambda: life.session.stop("enough")
    assert await life.run() == 0
    kinds = [kind for kind in life.kinds() if kind not in {"Hint", "Skipped"}]
    assert kinds == ["Starting"] * 3 + ["Connected", "Dns", "Captured", "Ready", "Stopping", "Stopped"]
    assert life.the(events.Connected).host == "fake"
    assert life.the(events.Stopping).reason == "enough"
    assert life.the(events.Stopped).clean
    assert [message["type"] for message in life.target.messages] == ["setup", "stop"]
    assert os.listdir(runtime_folder) == []


async def test_the_way_back_is_set_up_and_answers() -> None:
    """A `connect` on the control socket becomes a `dial` for the agent; before the bridge is ready it is refused."""
    life = Life(FakeTarget())

    async def connect(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(folder / "0.sock"))
        writer.write(b'{"ask": "connect", "host": "localhost", "port": 5432}\n')
        return reader, writer

    async def act(life: Life) -> None:
        folder = Path(os.environ["NETBRIDGE_RUNTIME_DIR"])
        back = life.target.setup["back"]
        assert back["gateways"] == ["198.18.0.1", "fd6e:6272::1"]
        assert back["agent"] is False
        async with life.target.kernel() as kernel:
            reader, writer = await connect(folder)
            async with asyncio.timeout(5):
                while life.target.messages[-1]["type"] != "dial":
                    await asyncio.sleep(0.01)
            dial = life.target.messages[-1]
            assert (dial["host"], dial["port"]) == ("localhost", 5432)
            _, home = await kernel.open_connection(back["gateways"][0], back["port"])
            home.write(f'{{"secret": "{back["secret"]}", "for": {dial["number"]}}}\nhello'.encode())
            async with asyncio.timeout(5):
                assert await reader.readline() == b'{"connected": true, "connection": 1}\n'
                assert await reader.readexactly(5) == b"hello"
            assert life.session.status()["back"]["open"] == 1
            assert back["secret"] not in str(life.session.status())
            life.session.stop("enough")
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()

    assert await life.during(act) == 0


async def test_no_way_back_before_the_bridge_is_ready(runtime_folder: Path) -> None:
    target = FakeTarget()
    target.hangs_while_connecting = True
    life = Life(target)

    async def asking() -> bytes:
        while not (runtime_folder / "0.sock").exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(str(runtime_folder / "0.sock"))
        writer.write(b'{"ask": "connect", "host": "localhost", "port": 5432}\n')
        answer = await reader.read()
        writer.close()
        life.session.stop("enough")
        return answer

    async with asyncio.TaskGroup() as group:
        running = group.create_task(life.session.run())
        answered = group.create_task(asking())
    assert (running.result(), b'"EAGAIN"' in answered.result()) == (0, True)


def test_an_ssh_agent_that_is_not_there_is_a_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(UsageError, match="SSH_AUTH_SOCK is not set here"):
        Life(FakeTarget(), forward_agent=True)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="No such file or directory"):
        Life(FakeTarget(), forward_agent=True)
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        assert Life(FakeTarget(), forward_agent=True).session.back._agent_path == str(tmp_path / "agent")


async def test_setup_says_what_was_asked_for() -> None:
    life = Life(
        FakeTarget(), route=("10.77.0.0/16",), exclude=("10.77.5.0/24",), mtu=1400,
        dns="all", dns_domain=("corp.test",),
    )
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    setup = life.target.setup
    assert "10.77.0.0/16" in setup["routes"]
    assert {"10.77.5.0/24", "198.18.0.0/30", "168.63.129.16/32"} <= set(setup["exclude"])
    assert (setup["tun"], setup["mtu"]) == ("nb0", 1400)
    assert setup["addresses"] == ["198.18.0.2/30", "fd6e:6272::2/64"]
    assert setup["dns"]["mode"] == "all"
    assert setup["dns"]["service"] == ["198.18.0.1", "fd6e:6272::1"]
    assert setup["dns"]["suffixes"][0] == "corp.test"
    assert setup["rto_min_ms"] == 2000
    assert not setup["pass_tun"]


async def test_host_alias_is_routed_named_and_told() -> None:
    life = Life(FakeTarget(), host_alias=True, allow=("127.0.0.1:80", "10.0.0.0/8"))
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    setup = life.target.setup
    assert "198.18.0.4/32" in setup["routes"]
    assert setup["dns"]["suffixes"][-1] == "netbridge.internal"
    told = life.the(events.HostAlias)
    assert (told.name, told.addresses, told.rules) == ("host.netbridge.internal", ("198.18.0.4",), ("127.0.0.1:80",))


async def test_without_the_option_no_alias_is_routed() -> None:
    life = Life(FakeTarget(), allow=("127.0.0.1:80",))
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    assert "198.18.0.4/32" not in life.target.setup["routes"]
    assert "HostAlias" not in life.kinds()


async def test_dns_off_asks_for_no_service() -> None:
    life = Life(FakeTarget(), dns="off")
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    assert life.target.setup["dns"]["service"] == []
    assert not life.the(events.Dns).on
    assert life.session.engine
    assert life.session.engine.dns is None


async def test_the_network_avoids_the_targets_own_subnets() -> None:
    target = FakeTarget()
    target.hello = {**HELLO, "facts": {**HELLO["facts"], "subnets": ["198.18.0.0/30", "fd6e:6272:1::/64"]}}
    life = Life(target)
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    assert target.setup["addresses"] == ["198.18.2.2/30", "fd6e:6272:2::2/64"]
    assert target.setup["tun"] == "nb2"


async def test_two_bridges_have_two_networks_and_both_are_found() -> None:
    first, second = Life(FakeTarget()), Life(FakeTarget())

    async def inner(_: Life) -> None:
        async def look(_: Life) -> None:
            with runtime.own_folder() as folder:
                found = await asyncio.to_thread(statuses, folder)
            assert [bridge["network"]["gateways"][0] for bridge in found] == ["198.18.0.1", "198.18.1.1"]
            assert [bridge["state"] for bridge in found] == ["running", "running"]

        await second.during(look)

    await first.during(inner)


async def test_status_has_the_whole_tree() -> None:
    life = Life(FakeTarget(), route=("10.77.0.0/16",), allow=("127.0.0.1:80",))

    async def look(_: Life) -> None:
        with runtime.own_folder() as folder:
            state = await asyncio.to_thread(ask, folder, 0, "status")
        assert state["target"] == "exec:fake"
        assert state["agent"]["host"] == "fake"
        assert state["policy"] == {"allow": ["127.0.0.1:80"], "deny": [], "host_alias": False}
        assert state["limits"]["tcp-flows"] == {"limit": 16384, "unit": "flows", "used": 0}
        assert state["limits"]["udp-idle-dns"] == {"limit": 10.0, "unit": "seconds"}
        assert {"policy", "fragments", "resolver"} <= set(state["counters"])
        assert {"network": "10.77.0.0/16", "reason": "asked for by --route"} in state["captured"]
        assert {"link", "ip", "tcp", "udp", "icmp", "dns", "forward_tcp", "forward_udp"} <= set(state["counters"])
        assert state["memory"]["resident"] > 1 << 20
        assert state["flows"] == []

    await life.during(look)


async def test_a_stop_over_the_control_socket_ends_it() -> None:
    life = Life(FakeTarget())

    async def tell(_: Life) -> None:
        with runtime.own_folder() as folder:
            assert await asyncio.to_thread(lambda: ask(folder, 0, "stop", until_gone=5)) == {"stopping": True}

    await life.during(tell)
    assert life.the(events.Stopping).reason == "asked by netbridge down"


def own_address() -> str | None:
    """This machine's address on its default route; no packet is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(sock.getsockname()[0])


@pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")
async def test_a_flow_passes_and_is_seen() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        await reader.read()
        writer.close()

    address = own_address()
    assert address
    server = await asyncio.start_server(serve, address, 0)
    port = server.sockets[0].getsockname()[1]
    life = Life(FakeTarget(), route=(f"{address}/32",))

    async def use(_: Life) -> None:
        async with life.target.kernel() as kernel:
            reader, writer = await kernel.open_connection(address, port)
            writer.write(b"hello\n")
            assert await reader.readline() == b"you said hello\n"
            (flow,) = life.session.status()["flows"]
            assert flow["destination"] == f"{address}:{port}"
            with pytest.raises(ConnectionRefusedError):
                await kernel.open_connection(address, 1)
            writer.close()

    async with server:
        await life.during(use)
    assert life.the(events.Stopped).flows >= 1


async def test_each_denied_flow_is_told() -> None:
    life = Life(FakeTarget(), deny=("10.77.0.0/16:80",))

    async def use(_: Life) -> None:
        async with life.target.kernel() as kernel:
            for _attempt in range(2):
                with pytest.raises(PermissionError):
                    await kernel.open_connection("10.77.0.5", 80)

    await life.during(use)
    first, second = (event for event in life.told if isinstance(event, events.FlowDenied))
    assert (first.protocol, first.destination, first.final, first.port) == ("tcp", "10.77.0.5", "10.77.0.5", 80)
    assert first.source.startswith("198.18.")
    assert first.source_port != second.source_port
    assert (first.times, second.times) == (1, 2)


async def test_routes_of_this_machine_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A VPN that comes up after the bridge is captured, one that goes down is let go."""
    lan = Route(ip_network("10.70.0.0/16"), "eth0")
    vpn = Route(ip_network("10.80.0.0/16"), "tun0")
    now = [lan]

    class FakeNetworks(LocalNetworks):
        async def snapshot(self) -> Snapshot:
            return Snapshot((Interface("eth0"), Interface("tun0", tunnel=True)), tuple(now))

    monkeypatch.setattr(capturing, "local_networks", FakeNetworks)
    monkeypatch.setattr(capturing, "HEARING_SECONDS", 0.02)
    life = Life(FakeTarget())

    async def captured(wanted: list[str]) -> None:
        async with asyncio.timeout(5):
            while [it["network"] for it in life.session.status()["captured"]] != wanted:
                await asyncio.sleep(0.01)

    async def use(_: Life) -> None:
        await captured(["10.70.0.0/16"])
        now.append(vpn)
        await captured(["10.70.0.0/16", "10.80.0.0/16"])
        now.remove(lan)
        await captured(["10.80.0.0/16"])

    await life.during(use)
    asked = [message["routes"] for message in life.target.messages if message["type"] == "routes"]
    assert asked == [["10.70.0.0/16", "10.80.0.0/16"], ["10.80.0.0/16"]]
    told = [len(event.networks) for event in life.told if isinstance(event, events.Captured)]
    assert told == [1, 2, 1]


async def test_without_knowledge_of_the_routes_named_networks_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> LocalNetworks:
        raise LocalNetworksError("routes cannot be read here")

    monkeypatch.setattr(capturing, "local_networks", unknown)
    life = Life(FakeTarget(), route=("10.77.0.0/16",))
    life.when[events.Ready] = lambda: life.session.stop("enough")
    assert await life.run() == 0
    assert [it.network for it in life.the(events.Captured).networks] == ["10.77.0.0/16"]
    assert "routes cannot be read here" in life.the(events.Hint).text


async def test_own_addresses_that_nobody_can_find_out_cannot_be_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that denies nothing would be worse than no bridge."""
    def unknown() -> LocalNetworks:
        raise LocalNetworksError("routes cannot be read here")

    monkeypatch.setattr(capturing, "local_networks", unknown)
    with pytest.raises(UsageError, match="The rule `local` cannot be kept"):
        await Life(FakeTarget(), deny=("local",)).run()


# --- COMMAND ----------------------------------------------------------------------------------------------------------


async def test_a_command_gives_the_status_and_ends_the_bridge() -> None:
    target = FakeTarget()
    target.command_status = 42
    life = Life(target, command=("curl", "x"))
    assert await life.run() == 42
    assert target.commands == [("curl", "x")]
    assert life.kinds().index("Ready") < life.kinds().index("CommandStarted") < life.kinds().index("CommandEnded")
    assert target.messages[-1] == {"type": "stop"}


async def test_a_stop_ends_the_command_and_says_so_by_the_status() -> None:
    target = FakeTarget()
    target.command_status = None
    life = Life(target, command=("sleep", "inf"))
    life.when[events.CommandStarted] = lambda: life.session.stop("SIGTERM came")
    assert await life.run() == KILLED
    assert target.command_cancelled


async def test_the_loss_of_the_target_ends_the_command() -> None:
    target = FakeTarget()
    target.command_status = None
    life = Life(target, command=("sleep", "inf"), grace=0.0)
    life.when[events.CommandStarted] = lambda: target.channel and target.channel.lose(ConnectionResetError("gone"))
    with pytest.raises(TargetUnreachableError, match="is lost"):
        await life.run()
    assert target.command_cancelled
    assert "Lost" in life.kinds()


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_failure_to_connect_is_passed_on(runtime_folder: Path) -> None:
    target = FakeTarget()
    target.fails_to_connect = NotPermittedError("The key is refused.", "It is not known there.", "Use another.")
    life = Life(target)
    with pytest.raises(NotPermittedError, match="The key is refused"):
        await life.run()
    assert target.closed == 1
    assert os.listdir(runtime_folder) == []


@pytest.mark.parametrize(("detail", "todo"), [
    ("there is no /dev/net/tun and none can be made: Operation not permitted", "devcontainer.json"),
    ("/dev/net/tun may not be opened: Operation not permitted", "devcontainer.json"),
    ("/dev/net/tun may not be opened: Permission denied", "Run it with sudo"),  # the sandbox of an ordinary user
])
async def test_a_refused_setup_is_told_with_its_exit_code(detail: str, todo: str) -> None:
    target = FakeTarget()
    target.refuses_setup = {"type": "error", "code": "no_tun", "detail": detail}
    with pytest.raises(TargetLacksError) as caught:
        await Life(target).run()
    assert caught.value.exit_code == 5
    assert todo in caught.value.todo


@pytest.mark.parametrize("error", [None, ConnectionResetError("gone")])
async def test_a_lost_link_ends_a_bridge_without_grace(error: Exception | None) -> None:
    life = Life(FakeTarget(), grace=0.0)
    life.when[events.Ready] = lambda: life.target.channel and life.target.channel.lose(error)
    began = time.monotonic()
    with pytest.raises(TargetUnreachableError):
        await life.run()
    assert time.monotonic() - began < 6
    assert not life.the(events.Stopped).clean


async def test_a_malformed_frame_ends_the_bridge() -> None:
    life = Life(FakeTarget())
    life.when[events.Ready] = lambda: life.target.channel and life.target.channel.deliver(b"\xff\xff\xff\xff garbage")
    with pytest.raises(BridgeError, match="broke the protocol") as caught:
        await life.run()
    assert caught.value.exit_code == 1


async def test_a_captured_network_that_makes_no_sense_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot be captured"):
        await Life(FakeTarget(), route=("127.0.0.0/8",)).session.run()


async def test_a_capture_file_that_cannot_be_written_is_said_before_anything_is_done_over_there(tmp_path: Path) -> None:
    life = Life(FakeTarget(), pcap=tmp_path / "none" / "file")
    with pytest.raises(UsageError, match="cannot be written"):
        await life.session.run()
    assert not life.told


async def test_what_the_agent_skips_is_told_and_not_called_captured() -> None:
    target = FakeTarget()
    target.skips = [{"route": "10.0.5.0/24", "reason": "it is inside 10.0.0.0/16"}]
    life = Life(target, route=("10.0.5.0/24", "10.77.0.0/16"))
    life.when[events.Ready] = lambda: life.session.stop("enough")
    await life.run()
    captured = {network.network for network in life.the(events.Captured).networks}
    assert "10.77.0.0/16" in captured
    assert "10.0.5.0/24" not in captured
    assert life.the(events.Skipped).networks == (events.Network("10.0.5.0/24", "it is inside 10.0.0.0/16"),)


# --- time bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["connecting", "mute"])
async def test_a_start_that_hangs_can_be_stopped(stage: str) -> None:
    target = FakeTarget()
    target.hangs_while_connecting = stage == "connecting"
    target.mute = stage == "mute"
    life = Life(target)
    asyncio.get_running_loop().call_later(0.2, life.session.stop, "impatient")
    began = time.monotonic()
    assert await life.run() == 0
    assert time.monotonic() - began < 2


async def test_a_command_that_never_began_is_no_success() -> None:
    """`netbridge up X -- test && deploy` must not deploy because somebody stopped it early."""
    target = FakeTarget()
    target.hangs_while_connecting = True
    life = Life(target, command=("true",))
    asyncio.get_running_loop().call_later(0.1, life.session.stop, "impatient")
    assert await life.run() == KILLED
    assert target.commands == []


@pytest.mark.slow
async def test_a_stop_is_bounded_when_the_other_end_hangs() -> None:
    target = FakeTarget()
    target.ignores_stop = target.hangs_while_closing = True
    life = Life(target)
    life.when[events.Ready] = lambda: life.session.stop("enough")
    began = time.monotonic()
    assert await life.run() == 0
    assert 2 < time.monotonic() - began < 6
    assert not life.the(events.Stopped).clean


async def test_a_hurried_stop_waits_for_nobody() -> None:
    target = FakeTarget()
    target.ignores_stop = target.hangs_while_closing = True
    life = Life(target)
    life.when[events.Ready] = lambda: life.session.stop("enough")
    asyncio.get_running_loop().call_later(0.7, life.session.hurry)
    began = time.monotonic()
    assert await life.run() == 0
    assert time.monotonic() - began < 2


async def test_a_hurried_stop_leaves_a_stubborn_command_behind() -> None:
    target = FakeTarget()
    let_go = asyncio.Event()

    async def stubborn(argv: Sequence[str]) -> int:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return 0

    target.run = stubborn  # type: ignore[method-assign]
    life = Life(target, command=("stubborn",))
    life.when[events.CommandStarted] = lambda: life.session.stop("enough")
    asyncio.get_running_loop().call_later(0.7, life.session.hurry)
    began = time.monotonic()
    assert await life.session.run() == KILLED
    assert time.monotonic() - began < 2
    let_go.set()


async def test_a_cancelled_session_cleans_up_too(runtime_folder: Path) -> None:
    life = Life(FakeTarget())
    running = asyncio.create_task(life.session.run())
    life.when[events.Ready] = running.cancel
    with pytest.raises(asyncio.CancelledError):
        await running
    assert life.target.messages[-1] == {"type": "stop"}
    assert os.listdir(runtime_folder) == []


async def test_a_failure_inside_is_a_bridge_error_or_itself_but_cleans_up() -> None:
    life = Life(FakeTarget())

    async def broken() -> None:
        raise RuntimeError("a bug")

    life.target.connect = broken  # type: ignore[method-assign]
    with pytest.raises((BridgeError, RuntimeError)):
        await life.run()
    assert life.target.closed == 1
