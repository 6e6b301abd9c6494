"""What the target permits, from what its agent found out (`hello` and `probed`, both untrusted): functions of facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..agent.probing import CAPABILITIES
from ..agent.resolved import RUNS
from ..errors import BridgeError
from ..packetcapture import costs
from ..routes import Capture
from ..startfaults import printable, refused_setup
from ..transport.mend import Mend
from .networks import overlaps
from .report import Check, fault, note, ok, warning

MOST = 64
"""Items of a list that are taken of a message."""

Facts = Mapping[str, Any]


def checks(hello: Facts, probed: Facts, capture: str, mend: Mend, choice: Capture) -> Iterator[Check]:
    """All but those that need another word with the target. `capture`: auto, tun or packet."""
    yield agent(hello)
    yield capabilities(part(probed, "capabilities"))
    yield capturing(part(probed, "tun"), part(probed, "packet"), capture, mend)
    yield offload(part(probed, "tun"))
    yield resolv_conf(part(probed, "resolv_conf"), mend)
    yield nameservers(items(probed.get("nameservers")))
    if probed.get("resolved") is True:
        yield ok("systemd-resolved", f"runs there ({RUNS}); it is told of the bridge's names")
    yield ipv6(part(hello, "facts").get("ipv6") is True, choice)
    yield networks(choice, [str(it) for it in items(part(hello, "facts").get("subnets"))])
    yield containers(items(probed.get("interfaces")))


def part(facts: Facts, name: str) -> Facts:
    """A mapping inside of one; an empty one for anything else."""
    value = facts.get(name)
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """A list; an empty one for anything else."""
    return value[:MOST] if isinstance(value, list) else []


def agent(hello: Facts) -> Check:
    """The agent runs, so python3 and root are there."""
    user, host = printable(hello.get("user")), printable(hello.get("host"))
    how = "as root" if user == "root" else "by sudo without a password"
    about = {name: printable(hello.get(name)) for name in ("user", "host", "kernel", "python")}
    return ok("python3, root", f"Python {about['python']} on Linux {about['kernel']}; {user} at {host}, {how}", **about)


def capabilities(held: Facts) -> Check:
    """What root may do there; what a lack of it means is the capture's to say."""
    have = [name.upper() for name in CAPABILITIES if held.get(name) is True]
    if {"NET_ADMIN", "NET_RAW"} <= set(have):
        return ok("capabilities", ", ".join(have), held=have)
    lacking = " and ".join(f"CAP_{name}" for name in ("NET_ADMIN", "NET_RAW") if name not in have)
    return note("capabilities", f"{', '.join(have) or 'none'}; {lacking} missing", held=have)


def ipv6(there: bool, choice: Capture) -> Check:
    """Whether interfaces over there can have IPv6 addresses, where some network wants it."""
    wanted = [str(it.network) for it in choice.captured if it.network.version == 6]
    if there or not wanted:
        return ok("IPv6", "can be had" if there else "none, and nothing wants it")
    return note("IPv6", f"none there, so {', '.join(wanted[:8])} {'is' if len(wanted) == 1 else 'are'} not captured")


def capturing(tun: Facts, packet: Facts, wanted: str, mend: Mend) -> Check:
    """Which way of capturing there is. `tun` and `packet` tell why not by code and detail; empty codes are success."""
    tun_code, packet_code = printable(tun.get("code")), printable(packet.get("code"))
    about = {"tun": tun_code or "ok", "packet": packet_code or "ok"}
    if not tun_code and wanted != "packet":
        return ok("capture", "by a TUN" + ("" if tun.get("node") is True else ", whose device node is made for it"),
                  by="tun", **about)  # fmt: skip
    if not packet_code and wanted != "tun":
        ready = {"tun": packet.get("interface"), "sums": packet.get("sums") is True, "no_tun": tun.get("detail")}
        said = f"by a packet socket on {printable(packet.get('interface'))}"
        if wanted == "packet":
            return ok("capture", said, by="packet", **about)
        todo = f"{mend.tun} {mend.device}".strip() if tun_code == "no_tun" else mend.tun
        why = costs(ready, asked=True, mend=mend)
        return warning("capture", f"{said}, since there is no TUN: {printable(tun.get('detail'))}",
                       f"{why[0].upper()}{why[1:]}.", todo, by="packet", **about)  # fmt: skip
    refused = tun if wanted == "tun" else packet
    detail = printable(refused.get("detail"))
    if wanted == "auto":
        detail = f"{printable(tun.get('detail'))}; {detail}"
    error = refused_setup({"code": refused.get("code"), "detail": detail}, mend)
    return fault("capture", error, by="", **about)


def offload(tun: Facts) -> Check:
    """Super-segments by the TUN."""
    if tun.get("code"):
        return note("offloads", "not asked: there is no TUN")
    if tun.get("offload") is True:
        return ok("offloads", "the TUN gives super-segments (TSO)")
    return warning(
        "offloads", "the TUN gives plain packets only", "Its kernel refuses TUN_F_TSO, so bulk data cost more there.",
        "A newer kernel over there has it; the bridge works without.",
    )


def resolv_conf(found: Facts, mend: Mend) -> Check:
    """Whether the bridge's stub can be put in."""
    error = printable(found.get("error"))
    if error:
        return warning(
            "resolv.conf", f"cannot be written: {error}", "Names over there may not be asked here.",
            "Mount it writable there, or say --dns off.",
        )
    link = printable(found.get("link"))
    return ok("resolv.conf", f"can be written{f' (it is a link to {link})' if link else ''}")


def nameservers(asked: Sequence[object]) -> Check:
    """The target's own nameservers and how fast they answer."""
    alive, dead = [], []
    for item in asked:
        it = item if isinstance(item, dict) else {}
        server, seconds = printable(it.get("server")), it.get("seconds")
        if it.get("rcode") and isinstance(seconds, (int, float)) and 0 <= seconds < 1e6:
            alive.append(f"{server} ({seconds * 1000:.0f} ms)")
        else:
            dead.append(server)
    if not dead:
        return ok("nameservers", ", ".join(alive)) if alive else note("nameservers", "none; all names are asked here")
    rest = f"These do: {', '.join(alive)}." if alive else "All names will be asked here, the first after two seconds."
    return warning("nameservers", f"{', '.join(dead)} do{'es' if len(dead) == 1 else ''} not answer", rest,
                   "See resolv.conf over there.")  # fmt: skip


def networks(choice: Capture, subnets: Sequence[str]) -> Check:
    """What both sides have: there the target's own is reached."""
    hit = overlaps([str(it.network) for it in choice.captured], subnets)
    about = [{"captured": mine, "own": own} for mine, own in hit]
    if not hit:
        own = ", ".join(map(printable, subnets[:8])) or "networks"
        return ok("overlaps", f"none with its own {own}", overlaps=about)
    said = ", ".join(f"{mine} with its {own}" for mine, own in hit[:8])
    return warning(
        "overlaps", said, "What the target has itself is not captured as a whole.",
        "Say --route ADDRESS where a single host behind this machine is meant.", overlaps=about,
    )


def containers(interfaces: Sequence[object]) -> Check:
    """Bridge networks of docker and the like, whose containers use the target's way out."""
    found = []
    for item in interfaces:
        it = item if isinstance(item, dict) else {}
        name = printable(it.get("name"))
        if name.startswith(("docker", "br-", "podman", "cni", "virbr")):
            found.append(f"{name} {', '.join(printable(network) for network in items(it.get('networks')))}".strip())
    if not found:
        return ok("containers", "no network of docker or the like", networks=found)
    return note("containers", f"{'; '.join(found)}; their containers reach captured networks if the target forwards",
                networks=found)  # fmt: skip


def held(error: BridgeError, *, ours: bool) -> Check:
    """Another bridge has it; one of this machine's works already."""
    if ours:
        return note("other bridges", "this machine bridges it already (`netbridge status`)")
    return fault("other bridges", error)


def line(trip: float, rate: float, fewest: int) -> Check:
    """Round trip in seconds, bytes a second from there (0: unknown), and the bytes by which that was measured."""
    fast = f", at least {rate * 8 / 1e6:.0f} Mbit/s from there" if rate * 8 >= 1e6 else (
        f", {rate * 8 / 1e3:.0f} kbit/s from there" if rate else "")  # fmt: skip
    about = {"round_trip": round(trip, 5), "bytes_per_second": round(rate), "measured": fewest}
    if trip > 0.4:
        return warning(
            "line", f"round trip {trip * 1000:.0f} ms{fast}", "Each new connection costs one more than here.",
            "A region nearer to you, or another way there, is faster.", **about,
        )
    return ok("line", f"round trip {trip * 1000:.1f} ms{fast}", **about)


def awake(interval: float, keep_awake: bool, codespace: bool) -> Check:
    """What asking whether the target is there costs. A question and its answer are some 200 bytes through SSH."""
    if not keep_awake:
        return ok("keepalive", "only while something is carried (--keep-awake no)")
    day = 200 * 86400 / interval
    cost = f"a question each {interval:g} s of silence, about {day / 1e6:.0f} MB a day"
    if codespace:
        return note("keepalive", f"{cost}, and it keeps the codespace awake and billed; --keep-awake no lets it sleep")
    return ok("keepalive", cost)
