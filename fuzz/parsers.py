"""What reads bytes or text from outside, and so has to be reached by the corpus: the one list of it.

A file alone stands for all its functions; with names behind it, for those functions and classes.
"""

from __future__ import annotations

from .textparsers import TEXTS

PARSERS: dict[str, tuple[str, ...]] = TEXTS | {
    "stack/ipv4.py": (),
    "stack/ipv6.py": (),
    "stack/fragments.py": (),
    "stack/packet.py": (),
    "stack/icmp/wire.py": (),
    "stack/udp/wire.py": (),
    "stack/tcp/segment.py": (),
    "stack/tcp/reassembly.py": (),
    "stack/link/offload.py": (),
    "stack/link/tracer.py": ("describe",),
    "stack/link/pcapng.py": (),
    "stack/link/greeting.py": ("parse", "Greeting"),
    "stack/link/carried.py": ("CarriedLink._take",),
    "bridge/agent/frames.py": (),
    "bridge/agent/dnsmsg.py": (),
    "bridge/agent/packetcut.py": (),
    "bridge/agent/resets.py": ("answer", "segment"),
    "bridge/dns/answer.py": (),
    "bridge/dns/message.py": (),
    "bridge/dns/synthesis.py": ("host_name", "reverse_address"),
    "bridge/dns/resolvconf.py": ("parse_resolv_conf", "socket_address"),
    "bridge/dns/scutil.py": (),
    "bridge/dns/hosts.py": (),
    "bridge/dns/nsswitch.py": (),
    "bridge/dns/linkdomains.py": (),
    "bridge/capturefilter.py": (),
    "bridge/forward/rules.py": (),
    "bridge/back/places.py": (),
    "bridge/back/socks.py": (),
    "bridge/routes/monitor.py": ("tells_of_change",),
    "bridge/routes/macos.py": ("parse_interfaces", "parse_routes"),
    "bridge/joint/proof.py": (),
    "bridge/joint/place.py": (),
    "bridge/bootstrap.py": ("_Marker",),
    "bridge/agent/resolvconf.py": ("parse",),
    "bridge/agent/netlink.py": ("_attribute", "_attributes", "understood"),
    "bridge/agent/leading.py": ("nameservers",),
    "bridge/sshconfig.py": ("block", "_without"),
    "bridge/options.py": ("_from_environment", "_from_file"),
    "bridge/transport/gh_codespace.py": ("parse_list", "find", "argument"),
    "bridge/transport/target.py": (),
    "bridge/transport/ssh_errors.py": ("from_stderr",),
    "bridge/transport/gh_errors.py": ("explain",),
    "bridge/transport/kubectl_errors.py": ("explain", "lost", "bad_configuration"),
    "bridge/transport/docker_errors.py": ("explain", "lost"),
    "bridge/transport/devpod_errors.py": ("explain", "lost"),
    "bridge/transport/ssh_settings.py": (),
    "bridge/trace/place.py": (),
    "stack/services/iperf3.py": ("_sane", "_state"),
    "cli/text.py": (),
}
ENOUGH = 0.95
"""The part of all their lines that must be reached."""

MACHINES = ("netbridge.stack.tcp", "netbridge.stack.icmp", "netbridge.stack.udp")
"""Packages whose branches guide atheris beside those of the parsers; few, as to make one countable takes a while."""


def watched() -> list[str]:
    """The modules and packages whose branches guide atheris."""
    return [*("netbridge." + path.removesuffix(".py").replace("/", ".") for path in PARSERS), *MACHINES]
