"""A real agent whose calls fail, in namespaces of its own, with a real session on this side and real servers behind it.

The seam is one file of the standard library, so it goes along with the agent's code: the bootstrap sends one module
more, and `main` begins by installing it. Each process of the agent (front, holder, guardian) has it from its parent,
and writes each call into a file that this side reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import bootstrap, capturing, events, firststage
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.options import Options
from netbridge.bridge.session import Session
from tests.bridge.agent.channels import LocalTransport
from tests.bridge.life import QuietNetworks

from .seam import Fault
from .servers import HERE, Servers

RESOLV_CONF = b"# as it was\nsearch old.example\nnameserver 127.99.0.1\n"
INSTALL = """
import os as _os
from . import faults as _faults
_faults.in_a_program(_os.environ["NETBRIDGE_FAULTS"])
"""
SECONDS = 20.0


@contextlib.contextmanager
def with_the_seam() -> Iterator[None]:
    """Agents that are started have the seam in them."""
    modules = json.loads(zlib.decompress(firststage.agent_code()))
    modules["faults"] = Path(__file__).with_name("seam.py").read_text()
    future = "from __future__ import annotations\n"
    assert future in modules["main"]
    modules["main"] = modules["main"].replace(future, future + INSTALL, 1)
    code = zlib.compress(json.dumps(modules).encode(), 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(firststage, "agent_code", lambda: code)
        patch.setattr(bootstrap, "agent_code", lambda: code)
        patch.setattr(capturing, "local_networks", QuietNetworks)
        yield


class Outcome:
    """What came of one run."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.hits = 0
        self.failed: dict[str, str] = {}
        """Errands that failed while calls did."""
        self.afterwards: dict[str, str] = {}
        """And when they did not any more."""
        self.ended: BridgeError | None = None
        self.told = ""
        """What the bridge does not have, in a few words."""
        self.wrong: list[str] = []

    @property
    def word(self) -> str:
        if self.wrong:
            return "WRONG"
        if self.ended is not None:
            return "says so and ends"
        if self.told:
            return self.told
        return "an errand fails, then all is well" if self.failed else "all is well"


class Over:
    """Namespaces for one agent: a private resolv.conf, and a program beside it that does errands."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.folder, self.servers = folder, servers
        self.resolv_conf = folder / "there.conf"
        self.said = folder / "said"

    async def run(self, fault: Fault | None) -> Outcome:
        """One bridge from start to stop."""
        outcome = Outcome()
        self.resolv_conf.write_bytes(RESOLV_CONF)
        self.said.write_text("")
        arguments = json.dumps({"said": str(self.said), "fault": fault})
        holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c",
             'mount --bind "$1" /etc/resolv.conf && ip link set lo up && exec "$2" "$3"', "sh",
             str(self.resolv_conf), sys.executable, str(Path(__file__).with_name("inside.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        try:
            assert holder.stdout is not None
            port = json.loads(await asyncio.to_thread(holder.stdout.readline))
            network = os.stat(f"/proc/{holder.pid}/ns/net").st_ino
            enter = ["nsenter", f"--target={holder.pid}", "--mount", "--net"]
            transport = LocalTransport(enter, env={**os.environ, "NETBRIDGE_FAULTS": arguments})
            await self._bridge(outcome, transport, holder, port)
            for channel in transport.channels:
                await self._gone(outcome, network, holder.pid)
                said = channel.diagnostics()
                await channel.dispose()
                said += channel.errors.decode(errors="replace")
                if "Traceback" in said:
                    outcome.wrong.append(f"a traceback:\n{said[-1500:]}")
            LocalTransport.opened.clear()
            self._as_before(outcome, enter)
        finally:
            holder.kill()
            holder.wait()
            for stream in (holder.stdin, holder.stdout):
                assert stream is not None
                stream.close()
        for line in self.said.read_text().splitlines():
            _, site, hit = line.split("\t")
            outcome.calls[site] += 1
            outcome.hits += int(hit)
        return outcome

    async def _bridge(self, outcome: Outcome, transport: LocalTransport, holder: Any, port: int) -> None:
        ready = asyncio.Event()
        told: list[events.Event] = []

        def tell(event: events.Event) -> None:
            told.append(event)
            if isinstance(event, events.Ready):
                ready.set()

        options = Options(
            target="exec:there", host_alias=True, dns_domain=("corp.test",), grace=0,
            allow=tuple(f"{HERE}:{each}" for each in (self.servers.tcp, self.servers.udp)) + (HERE,),
        )
        session = Session(options, tell, transport=transport)

        async def acting() -> None:
            await ready.wait()
            (alias,) = (event.addresses[0] for event in told if isinstance(event, events.HostAlias))
            outcome.failed = await self._errands(session, holder, alias, port)
            goes_without = {"name"} if any(isinstance(it, events.Dns) and not it.on for it in told) else set()
            if goes_without:  # the bridge said why
                outcome.told = "goes without names, and says so"
                outcome.failed.pop("name", None)
            if failed := await self._errands(session, holder, alias, port):  # the call that fails came only now
                failed = {key: why for key, why in failed.items() if key not in goes_without}
                outcome.failed |= failed
            if failed:
                outcome.afterwards = await self._errands(session, holder, alias, port)
                for key in goes_without:
                    outcome.afterwards.pop(key, None)
            session.stop("the test is over")

        doing = asyncio.ensure_future(acting())
        try:
            async with asyncio.timeout(SECONDS * 3):
                status = await session.run()
            if status:
                outcome.wrong.append(f"status {status}")
        except BridgeError as error:
            outcome.ended = error
            if not (error.what and error.why and error.todo):
                outcome.wrong.append(f"this is no proper failure: {error!r}")
        except Exception as error:
            outcome.wrong.append(f"it ended by {error!r}")
        finally:
            doing.cancel()
            await asyncio.wait({doing})
            if outcome.ended is None and not doing.cancelled() and (failure := doing.exception()):
                outcome.wrong.append(f"the errands: {failure!r}")
        for event in told:
            if isinstance(event, events.Stopped) and not event.clean and outcome.ended is None:
                outcome.wrong.append("the stop was not clean")
        if outcome.ended is None and outcome.afterwards:
            outcome.wrong.append(f"when it was over these failed: {outcome.afterwards}")

    async def _errands(self, session: Session, holder: Any, alias: str, port: int) -> dict[str, str]:
        errands = {
            "tcp": [alias, self.servers.tcp], "udp": [alias, self.servers.udp], "ping": [alias],
            "name": ["", "host.corp.test"],
        }  # fmt: skip

        def ask() -> dict[str, str]:
            holder.stdin.write(json.dumps(errands).encode() + b"\n")
            holder.stdin.flush()
            found: dict[str, str] = json.loads(holder.stdout.readline())
            return found

        def back() -> str:
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(8)
                    sock.connect(str(Path(os.environ["NETBRIDGE_RUNTIME_DIR"], "0.sock")))
                    sock.sendall(json.dumps({"ask": "connect", "host": "localhost", "port": port}).encode() + b"\n")
                    found = b""
                    while not found.endswith(b"\n"):
                        data = sock.recv(4096)
                        if not data:
                            return f"it ended after {found!r}"
                        found += data
                    sock.sendall(b"hello")
                    return "" if sock.recv(5) == b"hello" else f"{found!r}, then something else"
            except OSError as error:
                return f"{type(error).__name__}: {error}"

        failed, way_back = await asyncio.gather(asyncio.to_thread(ask), asyncio.to_thread(back))
        if way_back:
            failed["way back"] = way_back
        return failed

    async def _gone(self, outcome: Outcome, network: int, but: int) -> None:
        """No process of the agent's stays."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        while left := [pid for pid in in_network(network) if pid != but]:
            if asyncio.get_running_loop().time() > deadline:
                words = [Path(f"/proc/{pid}/cmdline").read_bytes()[-60:] for pid in left]
                outcome.wrong.append(f"processes are left: {words}")
                return
            await asyncio.sleep(0.02)

    def _as_before(self, outcome: Outcome, enter: list[str]) -> None:
        if self.resolv_conf.read_bytes() != RESOLV_CONF:
            outcome.wrong.append(f"resolv.conf is left as {self.resolv_conf.read_bytes()!r}")
        for command in (["ip", "-o", "link"], ["ip", "rule"], ["ip", "route", "show", "table", "all"]):
            shown = subprocess.run([*enter, *command], capture_output=True, text=True, check=True).stdout
            if re.search(r"\bnb\d|198\.18\.", shown):
                outcome.wrong.append(f"{' '.join(command)} shows {shown}")


def in_network(network: int) -> list[int]:
    """The processes of one network namespace."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == network:
                    found.append(int(name))
    return found
