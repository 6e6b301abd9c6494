"""The bridge's own names: `netbridge.internal` and what is below it, answered here and asked nowhere else.

.internal is the top-level domain that no public nameserver will ever serve (ICANN, resolution 2024.07.29.06), so
nobody's names are in the way. A name that is not known here does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .answer import Answer
from .message import AAAA, IN, PTR, A, Query, name_text
from .synthesis import Address, answer_addresses, answer_names, answer_no_name, answer_nothing, reverse_address

ZONE = "netbridge.internal"


class OwnNames:
    """The names of one bridge and their addresses."""

    def __init__(self, names: Mapping[str, Sequence[Address]] | None = None) -> None:
        """`names` in lower case, below ZONE."""
        self._names = {name: tuple(addresses) for name, addresses in (names or {}).items()}
        self._reverse = {address: name for name, addresses in self._names.items() for address in addresses}

    def answer(self, query: Query) -> Answer | None:
        """The answer; None when the name is none of ours."""
        if query.rclass != IN:
            return None
        if query.rtype == PTR and self._reverse:
            address = reverse_address(query)
            if address in self._reverse:
                return answer_names(query, [self._reverse[address]])
        if not query.name.endswith(_WIRE):
            return None
        name = name_text(query.name)
        if name != ZONE and not name.endswith(f".{ZONE}"):  # a label that only ends like ours
            return None
        if name in self._names and query.rtype in (A, AAAA):
            return answer_addresses(query, self._names[name])
        return answer_nothing(query) if name in self._names or name == ZONE else answer_no_name(query)


_WIRE = b"".join(bytes((len(label),)) + label.encode() for label in ZONE.split(".")) + b"\0"
"""How such names end in a message."""
