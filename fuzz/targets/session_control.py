"""Whatever the agent says in CONTROL, the session takes it or ends the link by its own error; all shown is harmless.

What each message may become is tried on all who read it: events, hints, failures, checks of `doctor`, a trace, the
captured networks and single hosts. Lines are without control characters, and bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import json
import logging
from collections.abc import Iterator
from typing import Any

from fuzz.line import ListChannel
from fuzz.shapes import messages
from fuzz.shown import harmless, kind, shown
from netbridge.bridge import events, introduction, packetcapture
from netbridge.bridge.addresses import Addresses
from netbridge.bridge.agent.frames import FrameError, control_frame
from netbridge.bridge.bootstrap import AgentHandle, AgentOptions, count
from netbridge.bridge.capturing import MOST_ROUTES, MOST_SKIPPED, Capturing
from netbridge.bridge.doctor import place
from netbridge.bridge.doctor.report import Check
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.hostroutes import HostRoutes, _Wish
from netbridge.bridge.options import Options
from netbridge.bridge.rivals import to_replace
from netbridge.bridge.routes import choose
from netbridge.bridge.startfaults import printable, refused_setup, refused_start
from netbridge.bridge.trace import there
from netbridge.bridge.transport.mend import IN_GENERAL
from netbridge.cli import render
from netbridge.cli.text import LINE_MAX, clean

LONGEST = 6 * LINE_MAX + 100
"""Characters of a line: LINE_MAX, each of which may be shown as an escape."""
RECORD = 2000
"""Characters of a log record that the agent can cause; there are fifty of them."""

OPTIONS = Options(target="ssh://devbox", route=("10.20.0.0/16", "fd00:20::/32"))
CHOICE = choose(None, routes=OPTIONS.route)
REAL: list[dict[str, Any]] = [
    {"type": "hello", "protocol": 1, "version": "0.1", "python": "3.11.2", "kernel": "6.1.0", "pid": 7, "uid": 0,
     "user": "mona", "host": "box", "facts": {
         "subnets": ["10.0.0.0/24", "172.17.0.0/16"], "nameservers": ["10.0.0.2"], "search": ["lan"],
         "ssh_peer": "192.0.2.9", "ipv6": True, "musl": False,
         "bridges": [{"machine": {"id": "x", "name": "pc", "user": "me"}, "attached": True, "session": "ab"}]}},
    {"type": "ready", "tun": "nb0", "offload": True, "capture": "tun", "routes": ["10.20.0.0/16"],
     "own": ["10.0.0.0/24"], "skipped": [{"route": "fd00:20::/32", "reason": "the target has no IPv6 here"}],
     "dns": True, "listen": "127.83.0.1", "dns_reason": "", "containers": ["172.17.0.0/16"],
     "containers_reason": "no", "ssh_agent": "/tmp/a",
     "took": {"TUN": 0.1, "routes": 0.2, "names": 0.3}},
    {"type": "ready", "tun": "eth0", "offload": True, "capture": "packet", "sums": True, "sources": ["10.0.0.0/24"],
     "no_tun": "there is no /dev/net/tun", "routes": [], "skipped": [], "own": [], "dns": False,
     "dns_reason": "read-only"},
    {"type": "routes_changed", "number": 3, "routes": ["10.20.0.0/16"], "skipped": [], "own": ["10.20.1.0/24"]},
    {"type": "host_routes_changed", "number": 4, "installed": ["10.20.1.7"],
     "skipped": [{"route": "10.20.1.8", "reason": "the target has a neighbour with that address"}]},
    {"type": "names_changed", "number": 5}, {"type": "stopped"}, {"type": "resumed", "taken": 0},
    {"type": "error", "code": "no_tun", "detail": "/dev/net/tun may not be opened: Permission denied"},
    {"type": "error", "number": 3, "code": "bad_message", "detail": "KeyError"},
    {"type": "error", "code": "tun_lost", "detail": "gone"}, {"type": "error", "code": "taken_over", "detail": "pc"},
    {"type": "traced", "number": 1, "host": "db", "port": 5432, "system": {"addresses": ["10.20.0.5"], "seconds": 0.1},
     "hosts": [], "search": ["corp.internal"], "nameservers": ["10.0.0.2"], "error": "",
     "answers": [{"who": "own", "server": "10.0.0.2", "name": "db.corp.internal", "rcode": "NXDOMAIN", "addresses": [],
                  "seconds": 0.01, "error": ""}],
     "addresses": [{"address": "10.20.0.5", "interface": "nb0", "route": "10.20.0.0/16", "gateway": "", "source": "",
                    "kind": "unicast", "error": "", "connect": {"code": "", "error": "", "seconds": 0.1}}]},
    {"type": "probed", "capabilities": {"net_admin": True},
     "tun": {"node": True, "code": "", "detail": "", "offload": True},
     "packet": {"code": "no_packet", "detail": "x", "interface": "", "sums": False}, "resolved": True,
     "resolv_conf": {"exists": True, "link": "", "error": "", "edited": False}, "programs": ["ip"],
     "nameservers": [{"server": "10.0.0.2", "rcode": "NOERROR", "seconds": 0.01}],
     "interfaces": [{"name": "docker0", "networks": ["172.17.0.0/16"]}], "data": "xx"},
]  # fmt: skip

_loop = asyncio.new_event_loop()


class _Log(logging.Handler):
    """What the log is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        assert len(text) <= RECORD, len(text)
        assert harmless(clean(text))
        self.lines.append(record.levelname)


LOG = _Log()


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """All records of the bridge are looked at, and shown to nobody."""
    logger = logging.getLogger("netbridge")
    before = logger.level, logger.propagate
    logger.addHandler(LOG)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(LOG)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def run(data: bytes) -> object:
    happened: list[object] = []
    for message in messages(data, REAL):
        try:
            frame = control_frame(message)
        except (ValueError, TypeError):
            continue
        LOG.lines.clear()
        with _logged():
            happened.append(_loop.run_until_complete(_link(frame)))
            if isinstance(message, dict):
                happened += _readers(json.loads(json.dumps(message)))
    return tuple(happened[:8])


async def _link(frame: bytes) -> str:
    """What the link does with it, whether something was asked or not."""
    label = ""
    for expected in ((), ("hello",), ("ready", "error"), ("resumed", "error"), ("routes_changed", "error")):
        channel = ListChannel()
        handle = AgentHandle(channel, AgentOptions(nonce="0"))
        ended: list[Exception | None] = []
        handle.on_lost = ended.append
        handle.on_routes = lambda message: None
        answer = handle._expect(*expected) if expected else None
        trace = _loop.create_future()
        handle._traces[1] = trace
        for byte in (frame, frame):
            handle.framed.data_received(memoryview(byte))
            handle.framed.burst_ended()
        for future in (answer, trace):
            if future is not None and future.done() and future.exception() is None:
                label += str(future.result().get("type"))[:20]
            elif future is not None:
                future.cancel()
        for error in ended:
            assert isinstance(error, OSError | BridgeError), error
            label += type(error).__name__
            if isinstance(error, BridgeError):
                shown(error)
            else:
                assert harmless(str(error))
                assert len(str(error)) < RECORD
        handle.close()
    return label


def _readers(message: dict[str, Any]) -> list[object]:
    """Everybody who reads a message."""
    labels: list[object] = []
    told: list[events.Event] = []
    with _refusals(labels):
        facts = message.get("facts")
        to_replace(
            facts.get("bridges") if isinstance(facts, dict) else message, machine="me", living={"other"},
            take_over=False, target="ssh://devbox",
        )
        Addresses(0).fits(introduction.texts(facts.get("subnets") if isinstance(facts, dict) else facts))
    stages = introduction.Stages()
    stages.note(events.Starting("starting the agent", OPTIONS.target))
    told.append(introduction.connected(
        OPTIONS, message, message, Addresses(0), mtu=1500, seconds=1.0, stages=stages,
    ))
    told.append(introduction.dns(OPTIONS, message, ["corp.internal"]))
    told += introduction.shortcomings(
        dataclasses.replace(OPTIONS, forward_agent=True), message, Addresses(0), IN_GENERAL,
    )
    for network in packetcapture.sources(message):
        ipaddress.ip_network(network)
    told += _networks(message)
    for event in told:
        line = render.line(event)
        assert harmless(line), line
        assert len(line) <= LONGEST
        json.loads(render.record(event))
    shown(refused_setup(message))
    shown(refused_start(str(message.get("detail"))))
    with contextlib.suppress(FrameError):
        assert isinstance(count(message.get("taken")), int)
    labels += [it.state for it in place.checks(message, message, "auto", IN_GENERAL, CHOICE) if _checked(it)]
    _traced(message)
    return labels


@contextlib.contextmanager
def _refusals(labels: list[object]) -> Iterator[None]:
    try:
        yield
    except BridgeError as error:
        labels.append(kind(shown(error)))


def _networks(message: dict[str, Any]) -> list[events.Event]:
    """What becomes of the captured networks, and of the hosts that have a route of their own."""
    told: list[events.Event] = []
    hosts = HostRoutes(told.append, lambda: [b"\x0a\x14\1\7"], clock=lambda: 1000.0)
    capturing = Capturing(OPTIONS, told.append, hosts)
    capturing.decide(peers=["192.0.2.9"], own=Addresses(0).networks)
    capturing.answered(message)
    assert len(capturing.installed) <= MOST_ROUTES
    assert len(capturing.skipped) <= MOST_SKIPPED
    address = b"\x0a\x14\1\7"
    hosts._answered(message, {"10.20.1.7": address}, {address: _Wish(60.0, "10.20.1.0/24", "db")})
    json.dumps([*hosts.state(), *map(dataclasses.asdict, capturing.captured)])
    return told


def _checked(check: Check) -> bool:
    for text in (check.said, check.why, check.todo):
        assert len(clean(text)) <= LONGEST
        assert harmless(clean(text))
    json.dumps(dataclasses.asdict(check))
    return True


def _traced(message: dict[str, Any]) -> None:
    found = there.names(message, ["corp.internal"], "auto")
    ways = there.ways(message)
    assert len(found.answers) <= there.MOST
    assert len(ways) <= there.MOST
    for address in (*found.addresses, *ways):
        ipaddress.ip_address(address)
    texts = [found.error, *found.search, *found.nameservers, found.name, found.server]
    for way, connect in ways.values():
        texts += [*dataclasses.astuple(way), *(dataclasses.astuple(connect)[:2] if connect else ())]
    for text in texts:
        assert printable(text) == text
    json.dumps(dataclasses.asdict(found), allow_nan=False)
