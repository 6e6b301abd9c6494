"""The kernel as a stack's neighbour: a TUN device, and an address on the kernel's side of it.

With CAP_NET_ADMIN all of it is made here. Without, the device has to be there for this user, up and with an address;
what is missing is told with the commands that make it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.tun import TunLink, open_tun

from .errors import BridgeError, NotPermittedError, UsageError

Interface = IPv4Interface | IPv6Interface
NODAD = 0x02
"""IFA_F_NODAD of linux/if_addr.h: nobody else is on this wire."""


def interfaces(addresses: Sequence[str]) -> list[Interface]:
    """A stack's addresses, read; UsageError for what is none."""
    found = []
    for text in addresses:
        try:
            one = ip_interface(text)
        except ValueError as error:
            raise UsageError(f"{text!r} is no address.", f"{error}.", "Name one as in 10.8.0.2/24.") from error
        if neighbour(one) is None:
            raise UsageError(
                f"{text} leaves no room for the kernel.", "Its network has no other address.",
                "Name the prefix length, as in 10.8.0.2/24.",
            )
        found.append(one)
    return found


def neighbour(address: Interface) -> Interface | None:
    """The first other address of its network: the kernel's."""
    network = address.network
    first = int(network.network_address) + (network.prefixlen < network.max_prefixlen - 1)
    last = int(network.broadcast_address) - (network.version == 4 and network.prefixlen < 31)
    for number in range(first, min(first + 1, last) + 1):
        if number != int(address.ip):
            host = type(address.ip)(number)  # of the same version
            return ip_interface(f"{host}/{network.prefixlen}")
    return None


def join(
    name: str, addresses: Iterable[Interface], *, mtu: int | None = None, offload: bool = True,
) -> tuple[TunLink, frozenset[bytes]]:  # fmt: skip
    """The link on the TUN `name`, up, with an address beside each of `addresses` on the kernel's side.

    An address of that version that the device has already is left as it is. Returns the kernel's addresses on it as
    well, packed. Raises NotPermittedError or BridgeError.
    """
    wanted = [beside for one in addresses if (beside := neighbour(one)) is not None]
    try:
        link = open_tun(name, mtu=mtu, offload=offload)
    except LinkError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermittedError(
                f"The TUN device {name} cannot be used.", "Making one, and setting it up, needs CAP_NET_ADMIN.",
                f"Run it as root, or make it for this user: {_commands(name, wanted)}.",
            ) from error
        busy = error.errno == errno.EBUSY
        todo = "Name another one, or end who uses it." if busy else "Load its driver: modprobe tun."
        raise BridgeError(f"The TUN device {name} cannot be opened.", f"{error}.", todo) from error
    try:
        return link, _address(link.name, wanted)
    except BaseException:
        link.close()
        raise


def _address(name: str, wanted: Sequence[Interface]) -> frozenset[bytes]:
    """Give the device what it lacks of `wanted`; the addresses that it has then."""
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=name)
        for one in wanted:
            family = 2 if one.version == 4 else 10
            if any(not it["scope"] for it in ip.get_addr(index=index, family=family)):
                continue  # a link-local one apart
            more = {} if one.version == 4 else {"flags": NODAD}
            try:
                ip.addr("add", index=index, address=str(one.ip), prefixlen=one.network.prefixlen, **more)
            except NetlinkError as error:
                if error.code != errno.EPERM:
                    raise BridgeError(
                        f"The kernel's side of {name} got no address.", f"{one}: {os.strerror(error.code)}.",
                        "Give it another one, or name another --address.",
                    ) from error
                raise NotPermittedError(
                    f"The kernel's side of {name} has no address.", "Giving it one needs CAP_NET_ADMIN.",
                    f"Run it as root, or: sudo ip addr add {one} dev {name}.",
                ) from error
        return frozenset(ip_address(it.get_attr("IFA_ADDRESS")).packed for it in ip.get_addr(index=index))


def _commands(name: str, wanted: Sequence[Interface]) -> str:
    parts = [f"sudo ip tuntap add dev {name} mode tun user $USER"]
    parts += [f"sudo ip addr add {one} dev {name}" for one in wanted]
    return " && ".join([*parts, f"sudo ip link set {name} up"])
