"""Whatever netstat, ifconfig, `route monitor` and /proc/net print is read line by line, as far as it is understood.

`route monitor` is a stream: it tells the same changes whole, byte by byte and cut in the middle, and holds no more
than a line.
"""

from __future__ import annotations

from fuzz.cuts import cuts
from fuzz.shown import printed_by
from netbridge.bridge.agent.sockets import _socket
from netbridge.bridge.routes.local import Snapshot
from netbridge.bridge.routes.macos import parse_interfaces, parse_routes
from netbridge.bridge.routes.monitor import MOST, Ear, tells_of_change
from netbridge.bridge.routes.reachable import reachable


def run(data: bytes) -> object:
    text = printed_by(data)
    interfaces = tuple(parse_interfaces(text))
    routes = [*parse_routes(text, 4), *parse_routes(text, 6)]
    for version in (4, 6):
        assert all(route.network.version == version and route.interface for route in parse_routes(text, version))
    for found in reachable(Snapshot(interfaces, tuple(routes))):
        assert found.reason
    sockets = [_socket(line.split()) for line in text.splitlines()]
    return (
        min(len(interfaces), 3), min(len(routes), 5), _heard(data),
        min(sum(socket is not None for socket in sockets), 3),
        max((len(interface.addresses) for interface in interfaces), default=0) > 1,
    )  # fmt: skip


def _heard(data: bytes) -> bool:
    lines = data.split(b"\n")[:-1]
    wanted = any(tells_of_change(line.decode(errors="replace")) for line in lines)
    for pieces in cuts(data):
        ear = Ear()
        assert bool(sum(ear.feed(piece) for piece in pieces)) == wanted
        assert len(ear._rest) <= MOST
    return wanted
