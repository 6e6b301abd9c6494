"""A bridge's state straight from its control socket: what `netbridge status --json` prints, without a program's start.

The test for that command itself is elsewhere; here it is asked a hundred times.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.world import Bridge


def state(bridge: Bridge) -> dict[str, Any]:
    """All there is to know about the bridge."""
    folder = Path(f"/proc/{bridge.pid}/root/run/netbridge")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(5)
        asking.connect(str(next(folder.glob("*.sock"))))
        asking.sendall(b'{"ask": "status"}\n')
        answer = b""
        while not answer.endswith(b"\n"):
            answer += asking.recv(1 << 20) or b"\n"
    found: dict[str, Any] = json.loads(answer)
    return found


def counter(bridge: Bridge, room: str, name: str) -> int:
    """One of its counters."""
    return int(state(bridge)["counters"][room][name])
