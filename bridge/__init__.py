"""The bridge: an agent over there, a stack and forwarders here, and a session that keeps them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .entrance import Entrance
    from .exit import Exit

__all__ = ["Entrance", "Exit"]


def __getattr__(name: str) -> Any:
    """What users of the library import from here is loaded when they do: the rest of the package is not to pay."""
    if name == "Entrance":
        from .entrance import Entrance

        return Entrance
    if name == "Exit":
        from .exit import Exit

        return Exit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
