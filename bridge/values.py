"""Turn raw settings (text from a flag or a variable, a value from TOML) into canonical values.

Each function takes whatever a source gave and returns the value or raises ValueError with a sentence that says what
is wrong with it; `options` adds where it came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path

from .forward.limitsettings import parse_limits, parse_number
from .forward.rules import LOCAL, parse_rule

MTU_MIN = 1280
"""The smallest MTU IPv6 allows (RFC 8200, section 5)."""
MTU_MAX = 65535


def words(value: object) -> list[str]:
    """A list given as such or as text."""
    if isinstance(value, str):
        return [word for word in re.split(r"[,\s]+", value) if word]
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return [item.strip() for item in value]
    raise ValueError("it must be text or a list of texts")


def networks(value: object) -> tuple[str, ...]:
    return tuple(network(word) for word in words(value))


def network(text: str) -> str:
    """A CIDR (or an address: its host network) in its canonical form; ValueError says what is wrong with it."""
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.1.0.0/16 or fd00::/8") from None
    address = text.partition("/")[0]
    if ipaddress.ip_address(address) != loose.network_address:
        raise ValueError(f"{text!r} has bits behind its prefix; {loose} was perhaps meant")
    return str(loose)


def rules(value: object) -> tuple[str, ...]:
    """Policy rules `CIDR[:PORTS]` (see `parse_rule`), as they were given; in one text separated by blanks."""
    parts = value.split() if isinstance(value, str) else words(value)  # a comma belongs to PORTS
    return tuple(parse_rule(part).text for part in parts)


def allowances(value: object) -> tuple[str, ...]:
    """The same for allowing: what `local` means is allowed anyway."""
    for text in (found := rules(value)):
        if text.partition(":")[0] == LOCAL:
            raise ValueError(f"rule {text!r}: this machine's own addresses are allowed; `{LOCAL}` is a word for --deny")
    return found


def limits(value: object) -> dict[str, float]:
    """Limits by field name: from a table, from `name=value` texts, or from one text of them."""
    return parse_limits(value)


_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")


def domains(value: object) -> tuple[str, ...]:
    domains = []
    for word in words(value):
        name = word.strip(".").lower()
        labels = name.split(".")
        if not name or len(name) > 253 or not all(_LABEL.match(label) for label in labels):
            raise ValueError(f"{word!r} is not a domain suffix such as corp.example")
        domains.append(name)
    return tuple(domains)


def truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise ValueError(f"{value!r} is neither true nor false")


class choice:  # noqa: N801, one of the converters
    """One of some words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: object) -> str:
        if isinstance(value, str) and value.lower() in self.choices:
            return value.lower()
        raise ValueError(f"{value!r} is none of {', '.join(self.choices)}")


def mtu(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and MTU_MIN <= value <= MTU_MAX:
        return value
    raise ValueError(f"{value!r} is not a number from {MTU_MIN} to {MTU_MAX}")


def number(least: float, most: float) -> Callable[[object], float]:
    def convert(value: object) -> float:
        try:
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                found = float(value)
                if least <= found <= most:
                    return found
        except (ValueError, OverflowError):  # TOML knows whole numbers of any length
            pass
        raise ValueError(f"{value!r} is not a number from {least:g} to {most:g}")

    return convert


def size(value: object) -> int:
    """Bytes: a number, or text with a unit such as 10MiB."""
    found = parse_number(value.strip() if isinstance(value, str) else value, "bytes", whole=True)
    if found is None or found < 0:
        raise ValueError(f"{value!r} is not a size such as 10MiB")
    return int(found)


def listening(value: object) -> str:
    """[ADDRESS:]PORT as ADDRESS:PORT, IPv6 in brackets; without ADDRESS this machine's loopback."""
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    address, _, port = text.rpartition(":")
    bare = "127.0.0.1" if address == "localhost" or text == port else address
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
    elif ":" in bare:
        bare = ""
    if port.isascii() and port.isdigit() and int(port) < 65536:
        try:
            found = ipaddress.ip_address(bare)
        except ValueError:
            pass
        else:
            return f"[{found}]:{int(port)}" if found.version == 6 else f"{found}:{int(port)}"
    raise ValueError(f"{value!r} is no [ADDRESS:]PORT such as 9464, 127.0.0.1:9464 or [::1]:9464")


def path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"{value!r} is not a file name")


def line(value: object) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value.strip()
    raise ValueError(f"{value!r} is empty or no text")
