"""Whatever the session says in CONTROL, the agent answers or sends `error`, changes but its own, and undoes all.

Around the real holder everything is in memory (`fuzz/place.py`): no change but to the TUN, its addresses and routes and
to resolv.conf can be made, and after `stop` nothing of it is left.
"""

from __future__ import annotations

from typing import Any

from fuzz.place import RESOLV_CONF, Place, place
from fuzz.shapes import messages
from netbridge.bridge.agent.frames import HEADER_LEN, FrameError, control_frame, parse_control

MOST_SAID = 4
"""Messages the agent says to one, and one each time something later comes of it."""

SETUP: dict[str, Any] = {
    "type": "setup", "tun": "nb0", "mtu": 1500, "addresses": ["198.18.0.2/30", "fd6e:6272::2/64"],
    "gateways": ["198.18.0.1", "fd6e:6272::1"], "routes": ["10.20.0.0/16", "fd00:20::/32"],
    "explicit": ["10.20.9.9/32"], "exclude": ["10.20.9.0/24"],
    "dns": {"mode": "auto", "service": ["198.18.0.1"], "suffixes": ["corp.internal"], "search": ["corp.internal"]},
    "rto_min_ms": 2000, "loopback_up": True, "pass_tun": False, "capture": "auto", "silence": 12.0,
    "session": {
        "name": "ab" * 16, "secret": "cd" * 32, "machine": {"id": "m", "name": "laptop"}, "quiet": False, "grace": 600,
    },
    "replace": ["ef" * 16],
    "back": {"gateways": ["198.18.0.1"], "port": 6272, "secret": "01" * 16, "most": 64, "agent": True},
}  # fmt: skip
REAL: list[dict[str, Any]] = [
    SETUP, {**SETUP, "pass_tun": True, "rto_min_ms": None},
    {"type": "routes", "number": 7, "routes": ["10.20.0.0/16", "10.30.0.0/16"], "exclude": ["10.30.1.0/24"]},
    {"type": "host_routes", "number": 8, "addresses": [
        {"address": "10.0.0.77", "seconds": 70.0}, {"address": "fd00::7", "seconds": 0},
    ]},
    {"type": "names", "number": 9, "suffixes": ["corp.internal", "lab"], "search": ["lab"]},
    {"type": "dial", "number": 3, "host": "127.0.0.1", "port": 5432}, {"type": "hang_up", "number": 3},
    {"type": "trace", "number": 4, "host": "db.corp.internal", "port": 5432, "service": ["198.18.0.1"], "tun": "nb0"},
    {"type": "probe"}, {"type": "probe", "fill": 1000}, {"type": "stop"},
    {"type": "resume", "session": "ab" * 16, "secret": "cd" * 32, "taken": 1000}, {"type": "nonsense"},
]  # fmt: skip


def run(data: bytes) -> object:
    happened: list[str] = []
    with place() as here:
        for message in messages(data, REAL):
            if not isinstance(message, dict) or not isinstance(message.get("type"), str):
                continue  # no such frame reaches the holder
            try:
                frame = control_frame(message)
                message = parse_control(memoryview(frame)[HEADER_LEN:])
            except (FrameError, ValueError):
                happened.append("no frame")
                continue
            happened += _told(here, message)
        here.holder.tether.lost(OSError("the connection broke"))
        here.loop.pass_time()
        here.session.said.clear()
        here.holder.control({"type": "stop"})
        assert here.session.said[-1]["type"] == "stopped"
        kernel = here.kernel
        if kernel.handed_over:  # the session closes its own copy when it ends
            kernel.handed_over = False
            kernel.close_tun()
        assert not kernel.tuns
        assert not kernel.made
        assert not kernel.given
        assert here.resolv_conf == RESOLV_CONF
        assert not here.loop.running
        here.loop.pass_time()
        assert not kernel.changes or set(kernel.changes) <= {"lo", *kernel.changes[:1]}
    return tuple(happened[:6])


def _told(here: Place, message: dict[str, Any]) -> list[str]:
    said = here.session.said
    said.clear()
    here.holder.control(message)
    at_once = len(said)
    assert at_once <= MOST_SAID
    here.loop.pass_time()
    answers = [answer["type"] for answer in said]
    if not here.session.connected:
        return ["passed on"]
    for answer in said:
        if answer["type"] == "error":
            assert isinstance(answer["code"], str)
            assert isinstance(answer["detail"], str)
    quiet = {"dial", "hang_up"}  # what comes of these is told by the connection
    assert answers or message["type"] in quiet or message.get("ask") == "who", message
    codes = [answer["code"] for answer in said if answer["type"] == "error"]
    return [f"{message['type'][:20]}: {','.join(codes or answers[:2])}"]
