"""Which networks the local machine can reach, and which of them the codespace should send through the bridge.

- :mod:`.local`: a picture of this machine's interfaces and routes, and where it comes from on this system.
- :mod:`.linux`: that picture by netlink; :mod:`.macos`: as netstat and ifconfig print it.
- :mod:`.notice`: a word when it changes, from netlink or from `route -n monitor` (:mod:`.monitor`).
- :mod:`.reachable`: what to capture by default, and why each network.
- :mod:`.capture`: the user's wishes on top: ``--route``, ``--exclude``, ``--all``.
"""

from __future__ import annotations

from .capture import Capture, choose
from .local import Interface, LocalNetworks, LocalNetworksError, Route, Snapshot, local_networks
from .notice import notice
from .reachable import Captured

__all__ = [
    "Capture", "Captured", "Interface", "LocalNetworks", "LocalNetworksError", "Route", "Snapshot", "choose",
    "local_networks", "notice",
]
