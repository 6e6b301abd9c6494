"""What the agent tells of a trace (`bridge/agent/tracing.py`), taken apart with distrust: the target made it.

Who answered is worked out here: the stub over there asks private suffixes of the bridge first, all other names of the
target's own nameservers first, and the second is asked what the first cannot resolve.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ..startfaults import printable
from .found import Answer, Connect, Names, Way

MOST = 64
"""Answers, addresses and names that are taken of a message."""


def names(message: Mapping[str, Any], suffixes: Sequence[str], mode: str) -> Names:
    """How the host resolves over there. `suffixes`: those asked of the bridge first; `mode`: auto, all or off."""
    system = message.get("system")
    system = system if isinstance(system, dict) else {}
    found = Names(
        addresses=_addresses(system.get("addresses")), seconds=_number(system.get("seconds")),
        error=printable(system.get("error") or message.get("error") or ""),
        answers=[_answer(item) for item in _items(message.get("answers")) if isinstance(item, dict)],
        search=[printable(item) for item in _items(message.get("search"))],
        nameservers=[printable(item) for item in _items(message.get("nameservers"))],
    )
    if not found.addresses:
        return found
    if _addresses([message.get("host")]) == found.addresses:
        found.who, found.name = "literal", found.addresses[0]
        return found
    if set(_addresses(message.get("hosts"))) & set(found.addresses):
        found.who, found.name = "hosts", printable(message.get("host"))
        return found
    settled = _settled(found, suffixes, mode)
    if settled is None:
        found.who = "system"
    else:
        found.who, found.server, found.name = settled.who, settled.server, settled.name
    return found


def _settled(found: Names, suffixes: Sequence[str], mode: str) -> Answer | None:
    """The answer that a program over there hears."""
    order: dict[str, int] = {}
    for answer in found.answers:
        order.setdefault(answer.name, len(order))

    def rank(answer: Answer) -> tuple[int, bool]:
        private = any(answer.name == suffix or answer.name.endswith(f".{suffix}") for suffix in suffixes)
        bridge_first = private or mode == "all"
        return order[answer.name], (answer.who == "bridge") != bridge_first

    fitting = [answer for answer in found.answers if set(answer.addresses) & set(found.addresses)]
    return min(fitting, key=rank, default=None)


def ways(message: Mapping[str, Any]) -> dict[str, tuple[Way, Connect | None]]:
    """By address: its route over there, and the connect that was tried."""
    found: dict[str, tuple[Way, Connect | None]] = {}
    for item in _items(message.get("addresses")):
        if not isinstance(item, dict):
            continue
        for address in _addresses([item.get("address")]):
            tried = item.get("connect")
            connect = None
            if isinstance(tried, dict):
                connect = Connect(printable(tried.get("code")), printable(tried.get("error")),
                                  _number(tried.get("seconds")))
            found[address] = Way(**{
                name: printable(item.get(name) or "")
                for name in ("interface", "route", "gateway", "source", "kind", "error")
            }), connect
    return found


def _answer(item: Mapping[str, Any]) -> Answer:
    return Answer(
        "bridge" if item.get("who") == "bridge" else "own", printable(item.get("server")), printable(item.get("name")),
        printable(item.get("rcode")), _addresses(item.get("addresses")), _number(item.get("seconds")),
        printable(item.get("error")),
    )


def _items(value: object) -> list[Any]:
    return value[:MOST] if isinstance(value, list) else []


def _addresses(value: object) -> list[str]:
    """The addresses in a list, zones dropped, each once."""
    found = []
    for item in _items(value):
        try:
            found.append(str(ipaddress.ip_address(str(item).partition("%")[0])))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e6 else 0.0
