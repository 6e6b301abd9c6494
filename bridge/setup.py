"""The message `setup`: all that the agent is asked to do over there."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from .addresses import Addresses
from .agent import SILENCE
from .capturing import Capturing
from .dns import Names
from .options import Options

RTO_MIN_MS = 2000
"""The target's kernel retransmits to the TUN no sooner: the link loses nothing, and TCP over TCP must not storm."""
MTU = 1500


def setup(
    options: Options, addresses: Addresses, capturing: Capturing, names: Names, *, name: str,
    machine: Mapping[str, str], replace: Sequence[str], back: Mapping[str, Any], hand_over: bool,
) -> dict[str, Any]:
    """The message's fields. `name` is the bridge's, `replace` names those that give way to it, `back` is the way back's
    own part; `hand_over`: the TUN's descriptor is given to this side, so nothing outlives the connection.
    """
    return {
        "tun": f"nb{addresses.number}",
        "mtu": options.mtu or MTU,
        "addresses": list(addresses.tun),
        "gateways": list(addresses.gateways),
        "routes": capturing.routes,
        "explicit": list(options.route),
        "exclude": capturing.exclude,
        "dns": {
            "mode": options.dns, "service": [] if options.dns == "off" else list(addresses.gateways),
            "suffixes": list(names.suffixes), "search": list(names.search),
        },
        "rto_min_ms": None if hand_over else RTO_MIN_MS,
        "loopback_up": True,
        "pass_tun": hand_over,
        "capture": options.capture,
        "silence": max(SILENCE, 4 * options.ping_interval),
        "session": {
            "name": name, "secret": secrets.token_hex(32), "machine": dict(machine), "quiet": not options.keep_awake,
            "grace": 0 if hand_over else options.grace,
        },
        "replace": list(replace),
        "back": dict(back),
    }
