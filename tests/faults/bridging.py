"""A bridge at work in this process, and everything a user may do with it: the scene in which calls fail.

A real `Session` on a fake target (`tests/bridge/fake_target.py`) whose stack plays the kernel over there. Real servers
are behind it. Each errand is done by itself once, which tells which sites it needs; then, with a fault, all of them at
once, and once more when the fault is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import dnslib
import pytest

from netbridge.bridge import capturing, events, runtime
from netbridge.bridge import session as session_module
from netbridge.bridge.control import ask
from netbridge.bridge.dns import Upstream
from netbridge.bridge.session import Session
from netbridge.cli.logfile import LogFile
from netbridge.stack import Stack
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks

from .servers import ANSWER, HERE, Servers

DATA = bytes(range(256)) * 80
PATIENCE = 20.0
"""Seconds for an errand that nothing disturbs, on a machine with much else to do."""
DISTURBED = 3.0
"""Seconds for one whose calls fail: a SYN that was dropped comes again after one."""

Errand = Callable[[], Awaitable[None]]


class Bridging:
    """One bridge from start to stop. `errands` are to be had while it is ready."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers = servers
        self.folder = folder
        self.complaints: list[str] = []
        """Of the log file."""
        (folder / "log").unlink(missing_ok=True)
        target = FakeTarget()
        target.acknowledges = True
        self.life = Life(
            target, host_alias=True, metrics="127.0.0.1:0", pcap=folder / "pcap", pcap_size=400_000,
            allow=tuple(f"{HERE}:{port}" for port in (servers.tcp, servers.udp, servers.closed_tcp)) + (HERE,),
        )
        self.log = LogFile(folder / "log", 2000, self.complaints.append)
        self.kernel: Stack | None = None

    @property
    def session(self) -> Session:
        return self.life.session

    async def run(self, act: Callable[[Bridging], Awaitable[None]]) -> int:
        """Run the session; `act` while it is ready. The exit status, or what the session raised."""
        async def acting(life: Life) -> None:
            self.kernel = life.target.kernel()
            async with self.kernel:
                await act(self)

        try:
            async with asyncio.timeout(600):
                return await self.life.during(acting)
        finally:
            self.log.close()

    async def one_after_the_other(self, before: Callable[[str], None]) -> None:
        """Every errand by itself, which must succeed; `before` each its name is told."""
        for name, errand in self.errands().items():
            before(name)
            async with asyncio.timeout(PATIENCE):
                await errand()
        before("")

    async def at_once(self, disturbed: Collection[str] = ()) -> dict[str, Exception]:
        """Every errand at the same time; those that failed, with the reason. The `disturbed` ones get less time."""
        failed: dict[str, Exception] = {}

        async def one(name: str, errand: Errand) -> None:
            try:
                async with asyncio.timeout(DISTURBED if name in disturbed else PATIENCE):
                    await errand()
            except Exception as error:
                failed[name] = error

        await asyncio.gather(*(one(name, errand) for name, errand in self.errands().items()))
        return failed

    def errands(self) -> dict[str, Errand]:
        return {
            "tcp": self.tcp, "refused": self.refused, "udp": self.udp, "ping": self.ping, "name": self.name,
            "hosts": self.hosts, "way back": self.way_back, "status": self.status, "metrics": self.metrics,
            "capture": self.capture, "watch": self.watch, "log": self.write_log,
        }  # fmt: skip

    @property
    def alias(self) -> str:
        address: str = self.life.the(events.HostAlias).addresses[0]
        return address

    @property
    def stack(self) -> Stack:
        assert self.kernel is not None
        return self.kernel

    @property
    def gateway(self) -> str:
        assert self.session.addresses
        return str(self.session.addresses.gateways[0])

    # --- what is done with it

    async def tcp(self) -> None:
        """Bytes there and back are the same, and end."""
        reader, writer = await self.stack.open_connection(self.alias, self.servers.tcp)
        try:
            writer.write(DATA)
            writer.write_eof()
            if (found := await reader.read()) != DATA:
                raise EOFError(f"{len(found)} bytes of {len(DATA)} came")
        finally:
            writer.transport.abort()

    async def refused(self) -> None:
        """A closed port says so."""
        try:
            _, writer = await self.stack.open_connection(self.alias, self.servers.closed_tcp)
        except ConnectionRefusedError:
            return
        writer.transport.abort()
        raise AssertionError("a closed port took a connection")

    async def _datagram(self, host: str, port: int, data: bytes) -> bytes:
        """Ask as programs do: again when nothing comes."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        class Asking(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                if not answer.done():
                    answer.set_result(bytes(data))

        transport, _ = await self.stack.create_datagram_endpoint(Asking, remote_addr=(host, port))
        try:
            while True:
                transport.sendto(data)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.4):
                        return await asyncio.shield(answer)
        finally:
            transport.close()

    async def udp(self) -> None:
        if await self._datagram(self.alias, self.servers.udp, DATA[:900]) != DATA[:900]:
            raise EOFError("another datagram came back")

    async def ping(self) -> None:
        for last in (False, False, True):
            try:
                await self.stack.ping(self.alias, timeout=1)
            except TimeoutError:
                if last:
                    raise
            else:
                return

    async def _ask_name(self, name: str, address: str) -> None:
        question = dnslib.DNSRecord.question(name)
        found = dnslib.DNSRecord.parse(await self._datagram(self.gateway, 53, bytes(question.pack())))
        if [str(each.rdata) for each in found.rr] != [address]:
            raise OSError(f"{name}: rcode {found.header.rcode}, {found.rr}")

    async def name(self) -> None:
        """One that no cache has yet."""
        self._names = getattr(self, "_names", 0) + 1
        await self._ask_name(f"host{self._names}.corp.test", ANSWER)

    async def hosts(self) -> None:
        await self._ask_name("printer.corp.test", "192.0.2.9")

    async def status(self) -> None:
        def asking() -> dict[str, Any]:
            with runtime.own_folder() as folder:
                return ask(folder, 0, "status", timeout=PATIENCE)

        state = await asyncio.to_thread(asking)
        assert state["state"] == "running", state

    async def metrics(self) -> None:
        port = int(self.life.the(events.Metrics).url.split(":")[2].partition("/")[0])

        def asking() -> bytes:
            with socket.create_connection((HERE, port), timeout=PATIENCE) as sock:
                sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                return b"".join(iter(partial(sock.recv, 65536), b""))

        page = await asyncio.to_thread(asking)
        if not page.startswith(b"HTTP/1.1 200") or b"netbridge_state" not in page:
            raise EOFError(f"{len(page)} bytes of metrics")

    def _control(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(Path(os.environ["NETBRIDGE_RUNTIME_DIR"], "0.sock")))
        return sock

    async def _asked(self, request: dict[str, Any], enough: Callable[[bytes], bool]) -> bytes:
        sock = await asyncio.to_thread(self._control)

        def asking() -> bytes:
            with sock:
                sock.sendall(json.dumps(request).encode() + b"\n")
                found = b""
                while not enough(found):
                    data = sock.recv(65536)
                    if not data:
                        raise EOFError(f"{request}: it ended after {found[:200]!r}")
                    found += data
                return found

        try:
            return await asyncio.to_thread(asking)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # else its thread would wait on
            raise

    async def watch(self) -> None:
        first = await self._asked({"ask": "watch"}, lambda found: b"\n" in found)
        assert "bridge" in json.loads(first.splitlines()[0]), first

    async def capture(self) -> None:
        """A packet of ours is in the stream."""
        asking = asyncio.create_task(
            self._asked({"ask": "capture", "filter": "icmp"}, lambda found: b"\n" in found and len(found) > 400)
        )
        try:
            while not asking.done():
                with contextlib.suppress(TimeoutError):
                    await self.stack.ping(self.gateway, timeout=0.1, size=300)
                await asyncio.sleep(0.01)
        except BaseException:
            asking.cancel()
            raise
        if not (await asking).startswith(b'{"capturing": true}'):
            raise OSError((await asking)[:200].decode())

    async def way_back(self) -> None:
        """Somebody asks for a port over there; the agent's part is played here."""
        target = self.life.target
        back = target.setup["back"]
        known = len(target.messages)
        port_ = 5000 + known

        def asking() -> bytes:
            with self._control() as sock:
                line = json.dumps({"ask": "connect", "host": "localhost", "port": port_})
                sock.sendall(line.encode() + b"\nhello")
                found = b""
                while not found.endswith(b"world"):
                    data = sock.recv(4096)
                    if not data:
                        raise EOFError(f"the way back ended after {found!r}")
                    found += data
                return found

        waiting = asyncio.create_task(in_thread(asking))
        try:
            while not (dials := [it for it in target.messages if it["type"] == "dial" and it["port"] == port_]):
                if waiting.done():
                    await waiting
                    return
                await asyncio.sleep(0.005)
            reader, writer = await self.stack.open_connection(back["gateways"][0], back["port"])
            try:
                writer.write(json.dumps({"secret": back["secret"], "for": dials[0]["number"]}).encode() + b"\n")
                async with asyncio.timeout(PATIENCE):
                    if await reader.readexactly(5) != b"hello":
                        raise EOFError("not what was said")
                writer.write(b"world")
                await waiting
            finally:
                writer.transport.abort()
        finally:
            with contextlib.suppress(Exception):
                await waiting

    async def write_log(self) -> None:
        for number in range(20):
            self.log.write(f"line {number} " + "x" * 200)
        if not (self.folder / "log").read_text().endswith("x\n"):
            raise EOFError("the last line is not in the log")


async def in_thread(work: Callable[[], bytes]) -> bytes:
    """A thread of the test's, and not of asyncio's own accord."""
    return await asyncio.to_thread(work)


def prepared(monkeypatch: pytest.MonkeyPatch, servers: Servers, folder: Path) -> None:
    """A machine with one wire, a nameserver of its own, and a runtime folder of the test's."""
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(folder / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    monkeypatch.setattr(session_module, "Upstream", partial(
        Upstream, resolv_conf=str(servers.resolv_conf), hosts=str(servers.hosts), nsswitch=str(servers.nsswitch),
        uplinks=str(folder / "none"), port=servers.dns, attempt_timeout=0.2, total_timeout=0.6,
    ))
