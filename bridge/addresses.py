"""The bridge's own little network: two addresses of each version, chosen by its number; they collide with nothing.

198.18.0.0/15 is set aside for benchmarks (RFC 2544, section C.2.2) and routed nowhere; fd6e:6272::/32 is a piece of
the unique local range (RFC 4193; its digits spell "nbr"). Bridge N uses 198.18.N.0/30 and fd6e:6272:N::/64: address 1
is the stack on this side, the gateway that traceroute shows, address 2 the TUN over there, and address 4, which lies
beside the /30 so that no broadcast address is in its way, stands for this machine's loopback (`--host-alias`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of bridge `number` (0 to 255)."""

    number: int

    @property
    def gateways(self) -> tuple[str, str]:
        """The stack's own addresses."""
        return self._address(1)

    @property
    def stack(self) -> tuple[str, str]:
        """The same with their prefix lengths."""
        return self._with_prefixes(1)

    @property
    def tun(self) -> tuple[str, str]:
        """The addresses of the TUN over there, with prefix lengths."""
        return self._with_prefixes(2)

    @property
    def alias(self) -> tuple[str, str]:
        """What the host alias resolves to, whether it is switched on or not."""
        return self._address(4)

    @property
    def everything(self) -> tuple[str, ...]:
        """CIDRs of all addresses that are this bridge's."""
        return *self.networks, f"{self.alias[0]}/32"

    @property
    def networks(self) -> tuple[str, str]:
        """The two networks; sources from elsewhere are not accepted (BCP 38)."""
        return self._with_prefixes(0)

    def _address(self, host: int) -> tuple[str, str]:
        return f"198.18.{self.number}.{host}", str(ip_address(f"fd6e:6272:{self.number:x}::{host}"))

    def _with_prefixes(self, host: int) -> tuple[str, str]:
        four, six = self._address(host)
        return f"{four}/30", f"{six}/64"

    def fits(self, networks: Iterable[str]) -> bool:
        """Whether none of `networks` (CIDRs of either version) overlaps ours. A default route is no obstacle."""
        own = [ip_network(network) for network in self.everything]
        for text in networks:
            try:
                other = ip_network(text, strict=False)
            except ValueError:  # the target says what it likes
                continue
            if other.prefixlen and any(mine.version == other.version and mine.overlaps(other) for mine in own):
                return False
        return True
