"""The policy's rules: ``CIDR[:PORTS]``, and the word ``local`` for whatever addresses this machine has at the moment.

A rule is read once and then matched against packed addresses: a shift and a comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from netbridge.stack.packet import TCP, UDP

Network = IPv4Network | IPv6Network

LOCAL = "local"
"""Stands for this machine's own addresses in a rule."""


class Block:
    """A network as integers: membership is one shift and one comparison."""

    __slots__ = ("length", "name", "network", "prefix", "shift")

    def __init__(self, network: Network | str, name: str = "") -> None:
        self.network = ip_network(network) if isinstance(network, str) else network
        self.length = self.network.max_prefixlen // 8
        self.shift = self.network.max_prefixlen - self.network.prefixlen
        self.prefix = int(self.network.network_address) >> self.shift
        self.name = name

    def __contains__(self, address: bytes) -> bool:
        return len(address) == self.length and int.from_bytes(address, "big") >> self.shift == self.prefix

    def covers(self, other: Block) -> bool:
        """Whether every address of `other` is in this block."""
        return other.length == self.length and other.shift <= self.shift and (
            other.prefix >> (self.shift - other.shift) == self.prefix
        )


class OwnAddresses(Block):
    """What arrives at this machine: no network but many, mostly single addresses, which change as its interfaces do."""

    __slots__ = ("_addresses", "_blocks", "networks")

    def __init__(self) -> None:
        super().__init__("::/128", LOCAL)
        self.networks: frozenset[Network] = frozenset()
        """As they are now; `become` changes them."""
        self._addresses: frozenset[bytes] = frozenset()
        self._blocks: tuple[Block, ...] = ()

    def become(self, networks: Iterable[Network]) -> None:
        """From now on it is these."""
        self.networks = frozenset(networks)
        self._addresses = frozenset(each.network_address.packed for each in self.networks if each.num_addresses == 1)
        self._blocks = tuple(Block(each) for each in self.networks if each.num_addresses > 1)

    def __contains__(self, address: bytes) -> bool:
        return address in self._addresses or any(address in block for block in self._blocks)


class Rule:
    """One ``CIDR[:PORTS]``; see :func:`parse_rule`."""

    __slots__ = ("block", "ports", "text")

    def __init__(self, text: str, block: Block, ports: tuple[tuple[int, int], ...]) -> None:
        self.text = text
        self.block = block
        self.ports = ports
        """Ranges, both ends included; empty means every port and also protocols without ports."""

    def matches(self, address: bytes, port: int, protocol: int) -> bool:
        """Whether the rule speaks of this destination. A rule with ports never speaks of ICMP."""
        if address not in self.block:
            return False
        if not self.ports:
            return True
        return protocol in (TCP, UDP) and any(low <= port <= high for low, high in self.ports)

    def __repr__(self) -> str:
        return f"<Rule {self.text}>"


def parse_rule(text: str) -> Rule:
    """Read ``CIDR[:PORTS]``: an address or network, then ports as numbers and ranges with commas between.

    ``10.0.0.0/8``, ``10.1.2.3:5432``, ``10.0.0.0/8:80,443,8000-8099``, ``fd00::/8``, ``[fd00::/8]:443``. An IPv6
    network with ports stands in brackets. ``local`` and ``local:22`` are this machine's own addresses. Raises
    ValueError whose text names the rule and what is wrong with it.
    """
    rule = text.strip()
    if rule.startswith("["):
        network, bracket, rest = rule[1:].partition("]")
        if not bracket:
            raise ValueError(f"rule {text!r}: the bracket is not closed; write [fd00::/8]:443")
        if rest and not rest.startswith(":"):
            raise ValueError(f"rule {text!r}: after the bracket only :PORTS may follow; write [fd00::/8]:443")
        if ":" not in network:
            raise ValueError(f"rule {text!r}: brackets are for IPv6; write 10.0.0.0/8:443")
        colon, ports = rest[:1], rest[1:]
    elif rule.count(":") > 1:
        network, colon, ports = rule, "", ""
        _no_port_meant(text, rule)
    else:
        network, colon, ports = rule.partition(":")
    if colon and not ports:
        raise ValueError(f"rule {text!r}: no ports after the colon")
    block = OwnAddresses() if network == LOCAL else Block(_parse_network(text, network))
    return Rule(rule, block, _parse_ports(text, ports))


def _no_port_meant(text: str, address: str) -> None:
    """``fd00::1:22`` is an address, but who writes it means a port: a rule must not be taken for another."""
    host, _, last = address.rpartition(":")
    if "/" not in address and _is_number(last) and _is_address(host):
        raise ValueError(f"rule {text!r}: write [{host}]:{last} for the port or {address}/128 for the address")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _parse_network(text: str, network: str) -> Network:
    if "%" in network:
        raise ValueError(f"rule {text!r}: a zone (%) has no meaning in a rule")
    try:
        return ip_network(network)
    except ValueError as error:
        if "host bits" in str(error):
            meant = ip_network(network, strict=False)
            host = network.partition("/")[0]
            raise ValueError(
                f"rule {text!r}: {network} is an address inside a network; write {meant} for the network or {host} for"
                " the address",
            ) from None
        raise ValueError(f"rule {text!r}: {network!r} is not an IP address or network") from None


def _parse_ports(text: str, ports: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in ports.split(",") if ports else ():
        low, dash, high = part.strip().partition("-")
        if not (_is_number(low) and (_is_number(high) or not dash)):
            raise ValueError(f"rule {text!r}: {part!r} is not a port (80) or a range of ports (8000-8099)")
        first, last = int(low), int(high or low)
        if not 1 <= first <= 65535 or not 1 <= last <= 65535:
            raise ValueError(f"rule {text!r}: ports are 1 to 65535")
        if last < first:
            raise ValueError(f"rule {text!r}: the range {part} ends before it begins")
        ranges.append((first, last))
    return tuple(ranges)


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdigit()
