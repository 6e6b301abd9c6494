"""Which destinations the codespace may reach through this machine.

Everything this machine can reach is allowed, that being the purpose, except what this machine means by "me" or "this
wire": its loopback, the unspecified address (connect() to it reaches loopback), link-local addresses and the cloud
metadata service, which hands out credentials. Those need an allow rule that names them: a rule opens a protected
network only when it lies inside it, so ``0.0.0.0/0`` opens nothing that was closed. Multicast and broadcast are never
forwarded. A deny rule wins over everything.

The judgement is on the final address, after names and mappings, so DNS rebinding gains nothing; and on what an address
*contains*: an IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4, Teredo...) is held to the rules of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from netbridge.stack.packet import TCP, UDP

Network = IPv4Network | IPv6Network


class Verdict:
    """Whether a destination may be reached, and why not. Verdicts are shared: compare `allowed`, do not change it."""

    __slots__ = ("allowed", "reason")

    def __init__(self, *, allowed: bool, reason: str = "") -> None:
        self.allowed = allowed
        self.reason = reason
        """Why it is denied, as the end of a sentence; empty when allowed."""

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return "<Verdict allowed>" if self.allowed else f"<Verdict denied: {self.reason}>"


ALLOWED = Verdict(allowed=True)

CACHE_ENTRIES = 8192
"""Verdicts remembered; a scan of a /16 must not grow it without end."""


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


NEVER = (
    Block("224.0.0.0/4", "multicast"),
    Block("255.255.255.255/32", "broadcast"),
    Block("ff00::/8", "multicast"),
)

PROTECTED = (
    Block("127.0.0.0/8", "the local machine's loopback"),
    Block("::1/128", "the local machine's loopback"),
    Block("0.0.0.0/8", "the local machine itself (RFC 1122 3.2.1.3)"),
    Block("::/128", "the local machine itself (RFC 4291 2.5.2)"),
    Block("169.254.0.0/16", "link-local, where cloud metadata lives"),
    Block("fe80::/10", "link-local"),
    Block("fd00:ec2::254/128", "the cloud metadata service"),
    Block("fd20:ce::254/128", "the cloud metadata service"),
)


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


class Policy:
    """The rules of one bridge, asked once for each new flow."""

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        """Rules are ``CIDR[:PORTS]``, see :func:`parse_rule`. Raises ValueError naming the bad rule."""
        self.allow = tuple(parse_rule(rule) for rule in allow)
        self.deny = tuple(parse_rule(rule) for rule in deny)
        self._openings = tuple(
            (block, tuple(rule for rule in self.allow if block.covers(rule.block))) for block in PROTECTED
        )
        self._cache: dict[tuple[bytes, int, int], Verdict] = {}

    def check(self, packed_address: bytes, port: int, protocol: int) -> Verdict:
        """Judge one destination: a packed address of 4 or 16 bytes, a port (0 for ICMP), an IP protocol number."""
        key = packed_address, port, protocol
        verdict = self._cache.get(key)
        if verdict is None:
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            verdict = self._cache[key] = self._judge(packed_address, port, protocol)
        return verdict

    def _judge(self, address: bytes, port: int, protocol: int) -> Verdict:
        for seen, disguise in ((address, ""), *disguised(address)):
            reason = self._objection(seen, port, protocol)
            if reason:
                return Verdict(allowed=False, reason=f"{reason} inside {disguise}" if disguise else reason)
        return ALLOWED

    def _objection(self, address: bytes, port: int, protocol: int) -> str:
        for block in NEVER:
            if address in block:
                return f"{block.name} is never forwarded"
        for rule in self.deny:
            if rule.matches(address, port, protocol):
                return f"denied by the rule {rule.text}"
        for block, openings in self._openings:
            if address in block:
                if any(rule.matches(address, port, protocol) for rule in openings):
                    return ""
                return f"{block.name}, denied unless a rule allows it"
        return ""


def disguised(address: bytes) -> Iterator[tuple[bytes, str]]:
    """The IPv4 addresses an IPv6 address may lead to, each with the name of the way."""
    if len(address) != 16:
        return
    head = address[:12]
    if head == b"\0" * 10 + b"\xff\xff":
        yield address[12:], "an IPv4-mapped address"
    elif head == b"\0" * 8 + b"\xff\xff\0\0":
        yield address[12:], "an IPv4-translated address"  # RFC 2765
    elif head == b"\0" * 12 and address[12:] not in (b"\0\0\0\0", b"\0\0\0\1"):
        yield address[12:], "an IPv4-compatible address"  # RFC 4291 2.5.5.1; :: and ::1 are judged as themselves
    elif head == b"\0\x64\xff\x9b" + b"\0" * 8:
        yield address[12:], "a NAT64 address"
    elif head[:6] == b"\0\x64\xff\x9b\0\1":
        # RFC 8215 leaves the prefix length to the network, and RFC 6052 2.2 the place follows from it. Byte 8 is
        # always skipped.
        yield address[12:], "a local NAT64 address"
        yield address[6:8] + address[9:11], "a local NAT64 address"
        yield address[7:8] + address[9:12], "a local NAT64 address"
        yield address[9:13], "a local NAT64 address"
    elif head[:2] == b"\x20\x02":
        yield address[2:6], "a 6to4 address"
    elif head[:4] == b"\x20\x01\0\0":
        yield bytes(byte ^ 0xFF for byte in address[12:]), "a Teredo address"  # RFC 4380 section 4
        yield address[4:8], "a Teredo address"
    if address[8:12] in (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe"):
        yield address[12:], "an ISATAP address"  # RFC 5214 section 6.1


def parse_rule(text: str) -> Rule:
    """Read ``CIDR[:PORTS]``: an address or network, then ports as numbers and ranges with commas between.

    ``10.0.0.0/8``, ``10.1.2.3:5432``, ``10.0.0.0/8:80,443,8000-8099``, ``fd00::/8``, ``[fd00::/8]:443``. An IPv6
    network with ports stands in brackets. Raises ValueError whose text names the rule and what is wrong with it.
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
    else:
        network, colon, ports = rule.partition(":")
    if colon and not ports:
        raise ValueError(f"rule {text!r}: no ports after the colon")
    return Rule(rule, Block(_parse_network(text, network)), _parse_ports(text, ports))


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
