"""What must add up, whatever happened: every packet, connection and datagram is counted by what became of it.

Each equation is about two counts that are made in different places: here what came in, there what became of it. Terms
are "room.counter", as `netbridge status --json` names them; the room `held` is what is neither over nor dropped.

`check` takes what a stack or a bridge counted and says in sentences what does not add up; `whole_stack`, `whole_exit`
and `whole_engine` look besides into a living one, at what it shares out among its flows; `emptied` at one that was
closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netbridge.bridge.engine import Engine, flows_now
from netbridge.bridge.exit import Exit
from netbridge.bridge.forward.counters import FlowsNow
from netbridge.bridge.forward.flows import FlowTable
from netbridge.bridge.forward.hostflows import HostFlows
from netbridge.bridge.forward.tcp import TcpForwarder
from netbridge.bridge.forward.tcpflow import TcpFlow
from netbridge.bridge.forward.udp import UdpForwarder
from netbridge.bridge.link import FramedLink
from netbridge.stack.stack import Stack
from netbridge.stack.statistics import held

Term = tuple[int, str, str]
"""Sign, room, counter."""


@dataclass(frozen=True)
class Equation:
    """Two sums that are equal."""

    about: str
    """What is counted twice, in words."""
    left: str
    right: str
    terms: tuple[Term, ...]
    """The left side's with their signs, the right side's with the other."""
    where: str
    """A room that has to be there besides, for the equation to hold."""


def equation(about: str, left: str, right: str, where: str = "") -> Equation:
    """`left` and `right`: terms with " + " and " - " between them."""
    return Equation(about, left, right, (*_terms(left, 1), *_terms(right, -1)), where)


def _terms(side: str, sign: int) -> Iterable[Term]:
    for word in side.replace(" - ", " + -").split(" + "):
        room, _, name = word.strip().removeprefix("-").partition(".")
        yield (-sign if word.strip().startswith("-") else sign), room, name


STACK = (
    equation(
        "packets from the link: what became of each",
        "ip.packets + fragments.reassembled",
        "ip.fragments + ip.malformed + ip.martian + ip.spoofed + ip.group + ip.expired + ip.unknown_protocol"
        " + udp.received + udp.malformed + icmp.received"
        " + tcp.segments_in + tcp.bad_header + tcp.bad_checksum + tcp.strays + tcp.unanswered"
        " + tcp.stray_resets + tcp.undecided + tcp.syn_repeated + tcp.cancelled + tcp.requests",
    ),
    equation(
        "fragments: put together, dropped by cause, or waiting",
        "ip.fragments",
        "fragments.merged + fragments.repeated + fragments.lost + fragments.after_drop + held.fragments",
    ),
    equation(
        "datagrams in pieces: put together, dropped by cause, or waiting",
        "fragments.begun",
        "fragments.reassembled + fragments.unfit + fragments.contradicting + fragments.too_many + fragments.evicted"
        " + fragments.expired + held.datagrams",
    ),
    equation(
        "UDP datagrams: forwarded, delivered, or claimed by nobody",
        "udp.received", "udp.forwarded + udp.delivered + udp.unclaimed",
    ),
    equation(
        "ICMP messages: by kind, or dropped by cause",
        "icmp.received",
        "icmp.malformed + icmp.ignored + icmp.echo_requests + icmp.echo_forwarded + icmp.echo_replies"
        " + icmp.errors_received",
    ),
    equation(
        "ICMP errors: told to whom they concern, or disbelieved",
        "icmp.errors_received", "icmp.errors_disbelieved + icmp.errors_about_pings + udp.errors + tcp.errors",
    ),
    equation(
        "errors of our own: sent, withheld or too many",
        "icmp.errors_due", "icmp.errors_sent + icmp.errors_withheld + icmp.errors_limited",
    ),
    equation(
        "datagrams to send, by who wanted it",
        "output.datagrams",
        "udp.sent + udp.not_sent - udp.too_long + icmp.echo_replies_sent + icmp.echo_requests_sent + icmp.errors_sent",
    ),
    equation(
        "datagrams to send: whole, in fragments, or too big",
        "output.datagrams", "output.packets - output.fragments + output.fragmented + output.too_big",
    ),
    equation(
        "requests for connections: decided, taken back, or waiting",
        "tcp.requests",
        "tcp.handshakes + tcp.accepted + tcp.refused + tcp.unreachable + tcp.dropped + tcp.cancelled + held.requests",
    ),
    equation(
        "handshakes of listeners: done, failed, or under way",
        "tcp.handshakes", "tcp.established + tcp.half_open_dropped + tcp.handshakes_failed + held.handshakes",
    ),
    equation(
        "connections: opened by whom",
        "tcp.opened", "tcp.accepted + tcp.established + tcp.connects",
    ),
    equation(
        "connections: over, or there",
        "tcp.opened", "tcp.closed + held.connections",
    ),
    equation(
        "resets that belong to no connection: to whom",
        "tcp.resets_sent", "tcp.strays + tcp.refused",
    ),
)


def check(counted: Any) -> list[str]:
    """What does not add up in the rooms of one stack or bridge: a mapping of rooms, or `Statistics`, of JSON or not.

    Equations about rooms that are not there are left out.
    """
    found = []
    for one in EQUATIONS:
        try:
            if one.where:
                _room(counted, one.where)
            difference = sum(sign * _count(counted, room, name) for sign, room, name in one.terms)
        except KeyError:
            continue
        if difference:
            found.append(f"{one.about}: {_shown(counted, one.left)}\n  is not {_shown(counted, one.right)}")
    return found


def _count(counted: Any, room: str, name: str) -> int:
    inside = _room(counted, room)
    value: int = inside[name] if isinstance(inside, Mapping) else getattr(inside, name)
    return value


def _room(counted: Any, room: str) -> Any:
    inside = counted[room] if isinstance(counted, Mapping) else getattr(counted, room, None)
    if inside is None:
        raise KeyError(room)
    return inside


def _shown(counted: Any, side: str) -> str:
    """The sum and its terms, those that are 0 left out."""
    terms = [(sign, f"{room}.{name}", _count(counted, room, name)) for sign, room, name in _terms(side, 1)]
    words = " ".join(f"{'-' if sign < 0 else '+'} {name} {value}" for sign, name, value in terms if value)
    return f"{sum(sign * value for sign, _, value in terms)} = {words.removeprefix('+ ') or '0'}"


BRIDGE = (
    equation(
        "packets over the link: each came into the stack", "link.packets_in - link.unwanted", "ip.packets",
    ),
    equation(
        "packets from the stack: over the link, or dropped by cause",
        "tcp.segments_out + tcp.resets_sent + output.packets",
        "link.packets_out + link.dropped + link.oversized + link.too_late",
    ),
    equation(
        "connection requests: what became of each",
        "tcp.forwarded",
        "forward_tcp.connected + forward_tcp.refused + forward_tcp.unreachable + forward_tcp.timed_out"
        " + forward_tcp.cancelled + forward_tcp.cancelled_waiting + forward_tcp.dropped_policy"
        " + forward_tcp.dropped_waiting + forward_tcp.dropped_late + forward_tcp.dropped_flows"
        " + forward_tcp.dropped_error + forward_tcp.dropped_closing + flows.waiting + flows.connecting",
    ),
    equation(
        "TCP flows: over, or there", "forward_tcp.connected", "forward_tcp.closed + flows.tcp - flows.connecting",
    ),
    *(
        equation(
            f"{protocol.upper()} from the codespace: sent, or dropped by cause",
            f"{protocol}.{forwarded}",
            " + ".join(f"forward_{protocol}.{name}" for name in (
                "packets_up", "dropped_policy", "dropped_waiting", "dropped_descriptors", "dropped_open",
                "dropped_send_full", "dropped_send_error")) + f" + flows.{protocol}_waiting",
        )
        for protocol, forwarded in (("udp", "forwarded"), ("icmp", "echo_forwarded"))
    ),
    *(
        equation(
            f"{protocol.upper()} flows: closed by cause, or there",
            f"forward_{protocol}.flows_opened",
            f"forward_{protocol}.flows_expired + forward_{protocol}.flows_recycled + forward_{protocol}.flows_failed"
            f" + forward_{protocol}.flows_closed + {more}flows.{protocol}",
        )
        for protocol, more in (("udp", "forward_udp.flows_refused + "), ("icmp", ""))
    ),
    equation(
        "echo replies: the host's, and our own",
        "icmp.echo_replies_sent", "icmp.echo_requests + forward_icmp.packets_down",
    ),
    equation(
        "datagrams for the codespace: of hosts, and of the DNS service",
        "udp.sent + udp.not_sent", "forward_udp.packets_down + dns.udp_answers", where="link",
    ),
    equation(
        "questions: answered at once, joined, asked, or not answered by cause",
        "dns.udp_queries + dns.tcp_queries",
        "dns.dropped + dns.malformed + dns.cache_hits + dns.own + dns.joined + dns.asked + dns.overload",
    ),
    equation(
        "questions that were asked: by answer, or under way",
        "dns.asked", "dns.positive + dns.no_such_name + dns.failed + dns.given_up + flows.questions",
    ),
)  # fmt: skip
EQUATIONS = STACK + BRIDGE


def rooms(stack: Stack) -> dict[str, Any]:
    """The rooms of a stack, by the names that a bridge gives them."""
    return {
        "ip": stack.counters, "fragments": stack.fragments.counters, "output": stack.output.counters,
        "icmp": stack.icmp.counters, "udp": stack.udp.counters, "tcp": stack.tcp.counters, "held": held(stack),
    }  # fmt: skip


def whole_stack(stack: Stack) -> list[str]:
    """What does not add up in a stack, what its connections share included."""
    tcp = stack.tcp
    flows = [*tcp.flows.values(), *tcp.aside]
    receivers = [flow.connection.receiver for flow in flows]
    datagrams = stack.fragments._datagrams.values()
    counted = rooms(stack)
    if isinstance(stack.link, FramedLink):
        counted["link"] = stack.link.counters
    return check(counted) + unequal({
        "bytes of unread data": (
            tcp.budget.used, sum(one.backlog_bytes + one.early.cost for one in receivers)),
        "bytes by which windows were widened": (
            tcp.budget.widened, sum(max(one.buffer - one._first, 0) for one in receivers)),
        "bytes to be sent": (tcp.sending, sum(flow.held for flow in tcp.flows.values())),
        "bytes of fragments": (stack.fragments.bytes_held, sum(one.cost for one in datagrams)),
        "flows that wait for the link twice": (len(set(tcp.waiting)), len(tcp.waiting)),
    })  # fmt: skip


def emptied(stack: Stack) -> list[str]:
    """What a stack that was closed holds still."""
    tcp = stack.tcp
    return unequal({
        "connections": (len(tcp.flows), 0), "connections over, but not read": (len(tcp.aside), 0),
        "connection requests": (len(tcp.requests), 0), "listeners": (len(tcp.listeners), 0),
        "flows that wait for the link": (len(tcp.waiting), 0), "flows that a burst changed": (len(tcp.dirty), 0),
        "bytes of unread data": (tcp.budget.used, 0), "bytes by which windows were widened": (tcp.budget.widened, 0),
        "bytes to be sent": (tcp.sending, 0), "UDP ports": (len(stack.udp._bindings), 0),
        "bytes of fragments": (stack.fragments.bytes_held, 0),
        "timers": (len(stack.timers) if stack._loop is not None else 0, 0),
    })  # fmt: skip


def whole_exit(one: Exit) -> list[str]:
    """What does not add up in an exit; its stack is a matter of its own."""
    if one._table is None or one._tcp is None:
        return []
    counters = one._table.counters
    counted = rooms(one.stack) | {
        "forward_tcp": one._tcp.counters, "forward_udp": counters.udp, "forward_icmp": counters.icmp,
        "flows": flows_now(one._table, one._tcp, one._dns),
    }  # fmt: skip
    if one._dns is not None:
        counted["dns"] = one._dns.counters
    return check(counted) + _forwarding(one._table, one._tcp)


def whole_engine(one: Engine) -> list[str]:
    """What does not add up in what stands on a bridge's link; its stack is a matter of its own."""
    if one.table is None or one.tcp is None:
        return []
    return check(one.rooms()) + _forwarding(one.table, one.tcp)


def whole_forwarder(one: TcpForwarder | HostFlows[Any]) -> list[str]:
    """What does not add up in one forwarder, which may stand on a stack or on what plays one."""
    counted = rooms(one._stack) if isinstance(one._stack, Stack) else {}
    if isinstance(one, TcpForwarder):
        now = FlowsNow(one.waiting, one.half_open[0], len(one), 0, 0, 0, 0, 0)
        ended = one._stack._closed
        left = {"flows": (len(one), 0), "host connects": (one.half_open[0], 0), "bytes held": (one.held, 0)}
        return check(counted | {"forward_tcp": one.counters, "flows": now}) + (unequal(left) if ended else [])
    room = "forward_udp" if isinstance(one, UdpForwarder) else "forward_icmp"
    left = {"flows": (len(one), 0), "timers": (int(one._timer is not None), 0)}
    wait = len(one._admission)
    return check(counted | {room: one._counts, "flows": FlowsNow(0, 0, 0, len(one), wait, len(one), wait, 0)}) + (
        unequal(left) if one._closed else [])


def _forwarding(table: FlowTable, tcp: TcpForwarder) -> list[str]:
    return unequal({
        "TCP flows of the table": (sum(isinstance(flow, TcpFlow) for flow in table), len(tcp)),
        "flows of the table, by protocol": (sum(table.totals.values()), len(table)),
        "bytes held for the codespace": (tcp.held, sum(flow._held for flow in tcp._flows)),
        "host connects under way": (len(tcp._connecting), sum(flow.state == "connecting" for flow in tcp._flows)),
        "handshakes of flows that are over": (len(set(tcp.handshaking) - tcp._flows), 0),
    })


def unequal(pairs: Mapping[str, tuple[int, int]]) -> list[str]:
    """A sentence for each pair that differs."""
    return [f"{what}: {one}, and not {other}" for what, (one, other) in pairs.items() if one != other]


WHOLE: dict[type, Callable[[Any], list[str]]] = {
    Stack: lambda one: whole_stack(one) + (emptied(one) if one._closed else []),
    Exit: whole_exit, Engine: whole_engine, TcpForwarder: whole_forwarder, HostFlows: whole_forwarder,
}  # fmt: skip
"""What is looked at, and how."""
