"""Which packets `netbridge capture --filter` takes: a few words, all of which must be true of a packet.

    tcp | udp | icmp        its protocol
    host ADDRESS | NETWORK  where it comes from or goes to
    port PORT               its source or destination port, TCP or UDP

Several addresses or ports in one word, with commas between, are alternatives: `tcp host 10.0.0.0/8,fd00::/8
port 80,443`. Names are not resolved: one name has several addresses, and which of them a program took its flow tells.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from netbridge.stack.packet import ICMP, ICMPV6, TCP, UDP, Buffer
from netbridge.stack.vnet import VNET_LEN

from .errors import UsageError

PROTOCOLS = {"tcp": (TCP,), "udp": (UDP,), "icmp": (ICMP, ICMPV6)}
_EXTENSIONS = {0, 43, 44, 60}
"""IPv6 headers before the transport's: hop-by-hop options, routing, fragment, destination options."""
_FRAGMENT = 44
ALTERNATIVES = 64
"""Behind one word: each packet is compared with all of them, while the next one waits."""
_CHAIN = 8
"""Extension headers looked behind; the stack itself takes no longer chain."""

Filter = Callable[[Buffer], bool]
"""Says of a packet, behind its virtio_net_hdr and at least as far as its ports, whether it is taken."""


def parse_filter(text: str) -> Filter | None:
    """None takes everything. Raises UsageError."""
    protocols: set[int] = set()
    networks: list[list[tuple[int, int, int]]] = []
    ports: list[set[int]] = []
    words = iter(text.lower().split())
    for word in words:
        if word in PROTOCOLS:
            protocols |= {*PROTOCOLS[word]}
        elif word == "host":
            networks.append([_network(text, part) for part in _argument(text, word, words)])
        elif word == "port":
            ports.append({_port(text, part) for part in _argument(text, word, words)})
        else:
            raise _wrong(text, f"{word!r} is none of its words")
    if not protocols and not networks and not ports:
        return None

    def takes(packet: Buffer) -> bool:
        found = _look(packet)
        if found is None:
            return False
        version, protocol, ends, wanted_ports = found
        return (
            (not protocols or protocol in protocols)
            and all(any(version == kind and end & mask == base for kind, base, mask in choice for end in ends)
                    for choice in networks)
            and all(not choice.isdisjoint(wanted_ports) for choice in ports)
        )

    return takes


def _look(packet: Buffer) -> tuple[int, int, tuple[int, int], tuple[int, ...]] | None:
    """Version, protocol, addresses as numbers, ports; None for what cannot be told."""
    data = memoryview(packet)[VNET_LEN:]
    number = int.from_bytes
    try:
        version = data[0] >> 4
        later = False
        if version == 4:
            protocol, at = data[9], (data[0] & 15) << 2
            later = number(data[6:8], "big") & 0x1FFF != 0
            ends = number(data[12:16], "big"), number(data[16:20], "big")
        elif version == 6:
            protocol, at = data[6], 40
            ends = number(data[8:24], "big"), number(data[24:40], "big")
            for _ in range(_CHAIN):
                if protocol not in _EXTENSIONS:
                    break
                length = 8 if protocol == _FRAGMENT else (data[at + 1] + 1) << 3
                later |= protocol == _FRAGMENT and number(data[at + 2:at + 4], "big") & 0xFFF8 != 0
                protocol, at = data[at], at + length
        else:
            return None
        if later or protocol not in {TCP, UDP} or len(data) < at + 4:  # only a first fragment tells its ports
            return version, protocol, ends, ()
        return version, protocol, ends, (number(data[at:at + 2], "big"), number(data[at + 2:at + 4], "big"))
    except IndexError:
        return None


def _argument(text: str, word: str, words: Iterator[str]) -> list[str]:
    found = next(words, "")
    if not found:
        raise _wrong(text, f"nothing follows {word!r}")
    parts = [part for part in found.split(",") if part]
    if not parts or len(parts) > ALTERNATIVES:
        raise _wrong(text, f"{len(parts)} stand behind {word!r}, where 1 to {ALTERNATIVES} can")
    return parts


def _network(text: str, part: str) -> tuple[int, int, int]:
    try:
        network = ipaddress.ip_network(part.strip("[]"), strict=False)
    except ValueError:
        raise _wrong(text, f"{part!r} is no address and no network") from None
    return network.version, int(network.network_address), int(network.netmask)


def _port(text: str, part: str) -> int:
    if not (part.isascii() and part.isdigit() and len(part) <= 5 and int(part) < 65536):
        raise _wrong(text, f"{part[:80]!r} is no port")
    return int(part)


def _wrong(text: str, why: str) -> UsageError:
    return UsageError(
        f"The filter {text[:200]!r} is not understood.", f"{why[:1].upper()}{why[1:]}.",
        "As in: tcp host 10.20.0.0/16 port 80,443.",
    )
