"""What a bridge tells while it lives: small typed events, given one by one to one callback.

An event says what happened in fields, never in prose for a screen: wording, colour and JSON belong to `cli/`.
Texts that came from the target (host names, error texts) are untrusted; the session makes them harmless for a terminal
(`plain.py`) before it tells them.
The callback runs inside the event loop, must not block and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Network:
    """One network and why it is treated as it is."""

    network: str
    """CIDR."""
    reason: str
    """In a few words, e.g. `by tun0`, `asked for`, `on-link over there`."""


@dataclass(frozen=True, slots=True)
class Event:
    """The family of everything below."""


@dataclass(frozen=True, slots=True)
class Starting(Event):
    """The start reached a stage that may take a while."""

    stage: str
    """What is being done, as a present participle: `reaching the target`."""
    target: str
    """TARGET as it was given."""


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """Packets flow."""

    target: str
    host: str
    """Host name over there. Untrusted."""
    user: str
    """User the agent runs as. Untrusted."""
    kernel: str
    """Kernel release over there. Untrusted."""
    python: str
    """Python version over there. Untrusted."""
    tun: str
    """Name of the TUN over there."""
    mtu: int
    offload: bool
    """Super-segments travel whole."""
    addresses: tuple[str, ...]
    """CIDRs of the TUN over there."""
    seconds: float
    """From the start until now."""
    capture: str = "tun"
    """How packets are captured: tun, or packet, and then `tun` and `addresses` are an interface's that was there."""
    stages: tuple[tuple[str, float], ...] = ()
    """What was done for it, as `Starting` said it, and the seconds that each took."""


@dataclass(frozen=True, slots=True)
class Captured(Event):
    """The networks whose packets now come through the bridge; the whole list whenever it changes."""

    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Skipped(Event):
    """Networks the local machine reaches that are not captured; the whole list whenever it changes."""

    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class HostRoute(Event):
    """A host inside one of the target's own networks comes through the bridge for a while, or cannot."""

    address: str
    name: str
    """The name that led to it; empty when open flows go there whose network is no longer captured."""
    network: str
    """CIDR."""
    seconds: float
    """How long; longer if it is asked for again or in use."""
    refused: str = ""
    """Why the target keeps it to itself. Untrusted."""


@dataclass(frozen=True, slots=True)
class Dns(Event):
    """Names over there are (or are no longer) asked here."""

    on: bool
    mode: str
    """auto, all or off."""
    listen: str
    """Address of the stub over there; empty when off."""
    suffixes: tuple[str, ...]
    """Suffixes asked here first: this machine's search and link domains, and --dns-domain."""


@dataclass(frozen=True, slots=True)
class Ready(Event):
    """Everything is in place: what is reachable here is reachable there."""

    target: str


@dataclass(frozen=True, slots=True)
class FlowDenied(Event):
    """The policy refused a flow. Of many at once only the first ones are told so, the others by `FlowsDenied`."""

    protocol: str
    """tcp, udp or icmp."""
    destination: str
    """The address as the codespace said it."""
    port: int
    """0 for icmp."""
    reason: str
    source: str = ""
    """Who wanted it, over there."""
    source_port: int = 0
    """0 for icmp."""
    final: str = ""
    """The address that was judged: `destination`, or what it stands for."""
    times: int = 1
    """How many flows to this destination were denied by now, this one among them."""


@dataclass(frozen=True, slots=True)
class FlowsDenied(Event):
    """The policy refused more flows than are told one by one."""

    count: int
    """Those not told."""
    seconds: float
    """The time in which they came, until now."""
    total: int
    """Denied flows since the bridge began."""


@dataclass(frozen=True, slots=True)
class HostAlias(Event):
    """A name over there means this machine's loopback."""

    name: str
    addresses: tuple[str, ...]
    """What the name resolves to, for those who cannot ask."""
    rules: tuple[str, ...]
    """The allow rules that open something of it; empty: nothing is reached."""


@dataclass(frozen=True, slots=True)
class SshAgent(Event):
    """This machine's ssh-agent was asked for over there (`--forward-agent`)."""

    path: str
    """Where it is found over there, for SSH_AUTH_SOCK; empty when it is not. Untrusted."""
    why: str
    """Why it is not. Untrusted."""


@dataclass(frozen=True, slots=True)
class Metrics(Event):
    """The bridge's numbers can be read."""

    url: str
    others: bool
    """Not only by this machine."""


@dataclass(frozen=True, slots=True)
class Hint(Event):
    """Something the user may want to mend; the bridge goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class CommandStarted(Event):
    """COMMAND (or, when empty, a shell) starts over there."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommandEnded(Event):
    """COMMAND ended over there."""

    status: int


@dataclass(frozen=True, slots=True)
class Lost(Event):
    """The connection to the target broke."""

    why: str
    """Untrusted."""


@dataclass(frozen=True, slots=True)
class Interrupted(Event):
    """The connection broke; flows wait while it is made anew."""

    why: str
    """Untrusted."""
    grace: float
    """Seconds until the target gives up."""


@dataclass(frozen=True, slots=True)
class Reconnecting(Event):
    """A try to make the connection anew failed."""

    tries: int
    """Those made, this one among them."""
    wait: float
    """Seconds until the next."""
    why: str
    """Untrusted."""


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The connection is there again, and every flow goes on."""

    seconds: float
    """How long it was not."""
    tries: int
    sent_again: int
    """Packets that were under way when it broke, sent to the target once more."""


@dataclass(frozen=True, slots=True)
class Stopping(Event):
    """The bridge begins to stop."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """Nothing of the bridge is left on this machine."""

    clean: bool
    """The agent confirmed that everything over there is as it was."""
    seconds: float
    """How long the bridge lived."""
    flows: int
    """Flows it carried."""
    bytes_up: int
    """TCP payload bytes from the target."""
    bytes_down: int
    """TCP payload bytes to the target."""


EventSink = Callable[[Event], None]
