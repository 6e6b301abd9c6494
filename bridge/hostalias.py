"""`host.netbridge.internal`: this machine's own loopback, by a name and an address that mean it over there too.

127.0.0.1 in the codespace is the codespace's. With `--host-alias` an address of the bridge's own network stands for the
loopback here; it is routed to the TUN, its name is answered by the DNS service, and the policy puts 127.0.0.1 (and ::1)
in its place before it judges, so each port wants its rule: `--allow 127.0.0.1:8080`.

IPv6 is answered only where a rule opens ::1, and IPv4 not where rules open ::1 alone: clients try every address they
are given, and one that is denied costs them time or the connection.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from .addresses import Addresses
from .forward.policy import Policy

NAME = "host.netbridge.internal"
LOOPBACK: tuple[IPv4Address | IPv6Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class HostAlias:
    """The alias of one bridge, which may be switched off."""

    def __init__(self, addresses: Addresses, *, on: bool) -> None:
        self.on = on
        self.addresses: tuple[IPv4Address | IPv6Address, ...] = tuple(map(ip_address, addresses.alias)) if on else ()
        """IPv4, IPv6; empty when off."""

    @property
    def mapping(self) -> dict[bytes, bytes]:
        """What stands for what, packed, as the policy wants it."""
        return {alias.packed: loopback.packed for alias, loopback in zip(self.addresses, LOOPBACK, strict=False)}

    @property
    def routes(self) -> list[str]:
        """What must be routed to the TUN; the IPv6 address lies in the TUN's own network."""
        return [f"{self.addresses[0]}/32"] if self.on else []

    def answers(self, policy: Policy) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses the name resolves to, where these rules hold."""
        opened = tuple(
            alias for alias, loopback in zip(self.addresses, LOOPBACK, strict=False) if policy.openings(loopback.packed)
        )
        return opened or self.addresses[:1]

    @staticmethod
    def rules(policy: Policy) -> tuple[str, ...]:
        """The rules that open anything of it."""
        return tuple(dict.fromkeys(rule.text for each in LOOPBACK for rule in policy.openings(each.packed)))
