"""The clients in the codespace: `python -m bench.load_client ROLE '{"option": value}'`; each role prints its result.

    hold     many flows that stay, each with small messages now and then, every echo compared
    churn    new connections at a fixed rate, whatever becomes of those before: connect, ask, answer, close
    stalled  downloads nobody reads, or uploads to a reader that waits; after `read` every byte is compared
    pending  connects that are left under way
    probe    one honest flow: a stream through the echo server, pings beside it, and a new connection now and then
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from bench import load_churn, load_hold, load_peer, load_probe, load_stalled

ROLES: dict[str, Callable[..., Any]] = {
    "hold": load_hold.Hold,
    "churn": load_churn.Churn,
    "stalled": load_stalled.Stalled,
    "pending": load_churn.Pending,
    "probe": load_probe.Probe,
}

if __name__ == "__main__":
    load_peer.many_files()
    options = json.loads(sys.argv[2])
    load_peer.congestion = options.pop("congestion", "")
    ROLES[sys.argv[1]](**options).run()
