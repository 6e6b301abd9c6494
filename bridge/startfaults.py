"""What can go wrong when an agent starts, told in three sentences: what, why, what to do."""

from __future__ import annotations

from typing import Any

from .agent import SILENCE
from .errors import BridgeError, BridgeGoneError, TargetLacksError, TargetUnreachableError
from .losses import BROKE
from .plain import clean
from .transport.base import Channel
from .transport.mend import IN_GENERAL, Mend

MAX_TEXT = 300
"""Characters of the target's own words in an error."""

NEEDS_SUDO = "Run it with sudo, or open the device as most distributions do: sudo chmod 666 /dev/net/tun"


def printable(text: object) -> str:
    """The target's own words, harmless and not too many."""
    return clean(str(text).strip(), MAX_TEXT - 1)


def refused_start(line: str, mend: Mend = IN_GENERAL) -> BridgeError:
    """The first stage gave up; `line` is what it said after the marker: `code detail|detail`."""
    code, _, details = line.partition(" ")
    first, _, second = (printable(part) for part in details.partition("|"))
    if code == "no-python":
        return TargetLacksError(
            "The agent needs python3 on the target.",
            "No python3 was found in its PATH.",
            "Install it there, for example with `sudo apt-get install python3` or `apk add python3`.",
        )
    if code == "old-python":
        return TargetLacksError(
            "The agent needs Python 3.8 or newer on the target.",
            f"The newest one in its PATH is {first}.",
            "Install a newer python3 there.",
        )
    if code == "cut-python":
        return TargetLacksError(
            "The agent needs all of Python's standard library on the target.",
            f"The Python {first} there has only a part of it, as Debian's python3-minimal does.",
            "Install the whole, for example with `sudo apt-get install python3`.",
        )
    if code == "no-sudo":
        return TargetLacksError(
            "The agent needs root on the target.",
            f"The user {first} is not root and there is no sudo.",
            mend.root_for(first),
        )
    if code == "sudo-refused":
        return TargetLacksError(
            "The agent needs root on the target.",
            f"sudo does not let {first} in without a password ({second}).",
            mend.root_for(first),
        )
    return BridgeError(
        "The agent did not start.", f"The target answered {printable(line)!r}.",
        "See with --trace-level debug what the target says, and that python3 runs there.",
    )  # fmt: skip


def refused_setup(message: dict[str, Any], mend: Mend = IN_GENERAL) -> BridgeError:
    """The agent answered `error`."""
    code = printable(message.get("code"))
    detail = printable(message.get("detail"))
    if code == "no_tun":
        # What root is never told: this is the sandbox of an ordinary user.
        if "may not be opened: Permission denied" in detail:
            return TargetLacksError("Ordinary users may not make a TUN on this machine.", f"{detail}.", NEEDS_SUDO)
        todo = f"{mend.tun} {mend.device}".strip()
        return TargetLacksError("The target has no usable /dev/net/tun.", f"{detail}.", todo)
    if code == "no_net_admin":
        return TargetLacksError("The target does not permit a network interface.", f"{detail}.", mend.tun)
    if code == "no_packet":
        return TargetLacksError("The target permits no capture of packets.", f"{detail}.", mend.tun)
    if code == "packets_held":
        return BridgeError(
            "Another bridge captures the packets of this target.", f"{detail}.",
            "End it where it runs (`netbridge down`), or give the target a TUN, of which there may be many:"
            f" {mend.tun}",
        )  # fmt: skip
    if code == "busy":
        return BridgeError(
            "The network interface could not be made.", f"{detail}.",
            "Stop the other bridge to this target (`netbridge down`), or remove the interface over there.",
        )  # fmt: skip
    if code in {"no_bridge", "not_resumed"}:
        return BridgeGoneError(
            "The target no longer holds this bridge.",
            "It was restarted, somebody ended what the bridge left there, or the grace (--grace) was over."
            if code == "no_bridge" else f"It says: {detail}.",
            "Start the bridge again.",
        )
    if code == "held":
        return BridgeError(
            "Another bridge holds all networks that were to be captured.", f"Its interface over there is {detail}.",
            f"End it where it runs (`netbridge down`); if that machine is gone, start again in {SILENCE:.0f} s.",
        )  # fmt: skip
    return BridgeError(
        "The agent could not do what it was asked.", f"It says {code}: {detail}.",
        "See with `netbridge doctor TARGET` what the target lacks.",
    )  # fmt: skip


def timed_out(what: str, seconds: float, channel: Channel) -> BridgeError:
    """The agent `what` within `seconds`."""
    said = printable(channel.diagnostics()[-MAX_TEXT:])
    return TargetUnreachableError(
        f"The agent {what} within {seconds:g} s.", f"The target said: {said}." if said else "The target said nothing.",
        "Try again, or see with --trace-level debug how far it came.",
    )  # fmt: skip


def closed_early(what: str, error: BaseException, channel: Channel) -> BridgeError:
    """The channel ended while the agent was expected to speak, or was ended because of what it said."""
    if BROKE in str(error):
        return BridgeError(
            "The agent sent what no agent sends.", f"It {what}: {printable(error).removeprefix('link_lost: ')}.",
            "See what changes bytes on the way to the target; if there is nothing, do not trust that machine.",
        )  # fmt: skip
    said = printable(channel.diagnostics()[-MAX_TEXT:]) or printable(error) or "the stream ended"
    return TargetUnreachableError(
        f"The agent {what}.", f"The connection was closed: {said}.",
        "See that the target is still running, and try again.",
    )  # fmt: skip
