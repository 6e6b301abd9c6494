"""Which destinations the codespace may reach through this machine.

Everything this machine can reach is allowed, that being the purpose, except what this machine means by "me" or "this
wire": its loopback, the unspecified address (connect() to it reaches loopback), link-local addresses and the cloud
metadata service, which hands out credentials. Those need an allow rule that names them: a rule opens a protected
network only when it lies inside it, so ``0.0.0.0/0`` opens nothing that was closed. Multicast, broadcast and the
bridge's own network are never forwarded. A deny rule wins over everything.

The judgement is on the final address, after names and mappings, so DNS rebinding gains nothing; and on what an address
*contains*: an IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4, Teredo...) is held to the rules of both.
The one mapping made here is that of aliases: an address of the bridge's own network that stands for this machine's
loopback (``--host-alias``).

This machine's addresses on its other interfaces are allowed like any other, as this machine reaches them; a connection
to one goes over ``lo`` and so past a firewall on the interface. ``--deny local`` closes them, whatever they become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network

from .flows import Key
from .rules import Block, Network, OwnAddresses, Rule, parse_rule

OnDenied = Callable[[Key, int, bytes, str], None]
"""Told of each denied flow: its key as the codespace sees it, IP protocol, final address, reason."""


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
    Block("100.100.100.200/32", "the cloud metadata service"),  # Alibaba
    Block("192.0.0.192/32", "the cloud metadata service"),  # Oracle
    Block("168.63.129.16/32", "the cloud's own agent service"),  # Azure
    Block("fd00:ec2::254/128", "the cloud metadata service"),
    Block("fd20:ce::254/128", "the cloud metadata service"),
)

MAPPED = b"\0" * 10 + b"\xff\xff"
"""An IPv4 address as IPv6 writes it begins so (RFC 4291 2.5.5.2)."""


class Policy:
    """The rules of one bridge, asked once for each new flow."""

    def __init__(
        self, allow: Sequence[str] = (), deny: Sequence[str] = (), *, aliases: Mapping[bytes, bytes] | None = None,
        own: Iterable[str] = (),
    ) -> None:
        """Rules are ``CIDR[:PORTS]``, see :func:`.rules.parse_rule`. Raises ValueError naming the bad rule.

        `aliases` maps packed addresses to those they stand for; `own` are the CIDRs of the bridge's own network.
        """
        self.allow = tuple(parse_rule(rule) for rule in allow)
        self.deny = tuple(parse_rule(rule) for rule in deny)
        if own_rules := [rule.text for rule in self.allow if isinstance(rule.block, OwnAddresses)]:
            raise ValueError(f"rule {own_rules[0]!r}: this machine's own addresses are allowed, unless denied")
        self.on_denied: OnDenied | None = None
        self._aliases = dict(aliases or {})
        self._never = (*NEVER, *(Block(network, "the bridge's own network") for network in own))
        self._openings = tuple(
            (block, tuple(rule for rule in self.allow if block.covers(rule.block))) for block in PROTECTED
        )
        self._routes: tuple[tuple[Block, ...], ...] = ()
        """A destination has to lie in one of each."""
        self._cache: dict[tuple[bytes, int, int], Verdict] = {}

    def confine(self, routes: Iterable[str]) -> None:
        """Nothing outside of these networks (CIDRs) may be reached from now on, whatever else is allowed. Called again,
        it confines further: who shares a policy cannot widen it for others.
        """
        self._routes = (*self._routes, tuple(Block(ip_network(route)) for route in routes))
        self._cache.clear()

    @property
    def follows_own_addresses(self) -> bool:
        """A rule speaks of this machine's own addresses: `own_addresses` must be told whenever they change."""
        return any(isinstance(rule.block, OwnAddresses) for rule in self.deny)

    def own_addresses(self, networks: Iterable[Network]) -> None:
        """What arrives at this machine (but for its loopback) from now on."""
        current = frozenset(networks)
        for rule in self.deny:
            if isinstance(rule.block, OwnAddresses) and rule.block.networks != current:
                rule.block.become(current)
                self._cache.clear()

    def openings(self, address: bytes) -> tuple[Rule, ...]:
        """The rules that open a protected address, or a port of it."""
        return tuple(
            rule for block, openings in self._openings if address in block for rule in openings if address in rule.block
        )

    def final(self, address: bytes) -> bytes:
        """The address that a host socket connects to when the codespace says `address`."""
        return self._aliases.get(address, address)

    def admit(self, key: Key, protocol: int) -> bytes | None:
        """Judge a new flow: the final address, or None, which `on_denied` was told."""
        final = self._aliases.get(key[2], key[2])
        verdict = self.check(final, key[3], protocol)
        if verdict.allowed:
            return final
        if self.on_denied is not None:
            self.on_denied(key, protocol, final, verdict.reason)
        return None

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
        if self._routes:
            # What a mapped address is a route decides as well: a socket here reaches the IPv4 address in it.
            reached = address[12:] if address.startswith(MAPPED) else address
            if not all(any(reached in route for route in routes) for routes in self._routes):
                return Verdict(allowed=False, reason="no route leads there")
        for seen, disguise in ((address, ""), *disguised(address)):
            reason = self._objection(seen, port, protocol)
            if reason:
                return Verdict(allowed=False, reason=f"{reason} inside {disguise}" if disguise else reason)
        return ALLOWED

    def _objection(self, address: bytes, port: int, protocol: int) -> str:
        for block in self._never:
            if address in block:
                return f"{block.name} is never forwarded"
        for rule in self.deny:
            if rule.matches(address, port, protocol):
                return f"denied by the rule {rule.text}"
        for block, openings in self._openings:
            if address in block:
                if any(rule.matches(address, port, protocol) for rule in openings):
                    return ""
                return f"{block.name}, denied unless --allow names it"
        return ""


def disguised(address: bytes) -> Iterator[tuple[bytes, str]]:
    """The IPv4 addresses an IPv6 address may lead to, each with the name of the way."""
    if len(address) != 16:
        return
    head = address[:12]
    if head == MAPPED:
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
