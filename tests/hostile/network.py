"""Every attack by name: what hosts in the network, and root in the codespace through the network, do to a bridge."""

from __future__ import annotations

from .attack import Attack, Place
from .crowds import CROWDS
from .floods import FLOODS
from .forgeries import FORGERIES
from .pieces import PIECES
from .puppetry import PUPPETRY
from .strangers import STRANGERS

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack for attack in (*FLOODS, *PIECES, *FORGERIES, *PUPPETRY, *CROWDS, *STRANGERS)
}

__all__ = ["ATTACKS", "Attack", "Place"]
