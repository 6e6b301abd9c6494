"""Why a connection ended, in words for people."""

from __future__ import annotations

from netbridge.stack.link.base import LinkError

from .errors import BridgeError, TakenOverError, TargetUnreachableError

BROKE = "broke the protocol"
"""How the link says that it was the agent's fault."""


def reason(error: Exception | None) -> str:
    """One or two sentences."""
    why = f"{error.what} {error.why}".strip() if isinstance(error, BridgeError) else str(error or "")
    return why.removeprefix("link_lost: ") or "The other end closed it without a word."


def lost(error: Exception | None, target: str) -> BridgeError:
    """The end of a bridge whose link ended with `error`."""
    if isinstance(error, TakenOverError):
        return error
    why = reason(error)
    if isinstance(error, LinkError) and BROKE in why:  # it is there, and it is the agent that is at fault
        return BridgeError(
            f"The agent of {target} sent what no agent sends.", why,
            "Start the bridge again; if it happens again, do not trust that machine.",
        )  # fmt: skip
    return TargetUnreachableError(f"The connection to {target} is lost.", why, "Start the bridge again.")
