"""What is made of an agent's findings: each check with facts that are well, ill, and nonsense."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from netbridge.bridge.doctor import place
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.routes import Capture, Captured
from netbridge.bridge.transport.mend import IN_GENERAL

TUN = {"node": True, "code": "", "detail": "", "offload": True}
NO_TUN = {"node": False, "code": "no_tun", "detail": "there is no /dev/net/tun", "offload": False}
NO_ADMIN = {"node": True, "code": "no_net_admin", "detail": "CAP_NET_ADMIN is missing", "offload": False}
PACKET = {"code": "", "detail": "", "interface": "eth0", "sums": False}
NO_PACKET = {"code": "no_packet", "detail": "CAP_NET_RAW is missing", "interface": "", "sums": False}
HELD = {"code": "packets_held", "detail": "another bridge captures packets here", "interface": "", "sums": False}


@pytest.mark.parametrize(("tun", "packet", "wanted", "state", "by", "code"), [
    (TUN, PACKET, "auto", "ok", "tun", 0), (TUN, NO_PACKET, "auto", "ok", "tun", 0),
    (TUN, PACKET, "packet", "ok", "packet", 0),
    (NO_TUN, PACKET, "auto", "warning", "packet", 0), (NO_ADMIN, PACKET, "auto", "warning", "packet", 0),
    (NO_TUN, PACKET, "tun", "fault", "", 5), (NO_ADMIN, PACKET, "tun", "fault", "", 5),
    (NO_TUN, NO_PACKET, "auto", "fault", "", 5), (TUN, NO_PACKET, "packet", "fault", "", 5),
    (NO_TUN, HELD, "auto", "fault", "", 1),
])
def test_capture(
    tun: dict[str, Any], packet: dict[str, Any], wanted: str, state: str, by: str, code: int,
) -> None:  # fmt: skip
    check = place.capturing(tun, packet, wanted, IN_GENERAL)
    assert (check.state, check.details["by"], check.exit_code) == (state, by, code)
    if state == "warning" or code == 5:
        assert '"runArgs"' in check.todo
    if tun is NO_TUN and state != "ok" and wanted == "auto" and packet is PACKET:
        assert "modprobe tun" in check.todo


def test_a_device_node_that_is_made_is_told() -> None:
    assert "made" in place.capturing({**TUN, "node": False}, PACKET, "auto", IN_GENERAL).said


def test_capabilities() -> None:
    assert place.capabilities({"net_admin": True, "net_raw": True}).state == "ok"
    lacking = place.capabilities({"net_raw": True, "net_admin": "yes"})
    assert (lacking.state, lacking.said) == ("note", "NET_RAW; CAP_NET_ADMIN missing")


def test_ipv6() -> None:
    both = Capture(tuple(Captured(ipaddress.ip_network(it), "by tun0") for it in ("fd00::/8", "10.0.0.0/8")), ())
    assert place.ipv6(True, both).state == place.ipv6(False, Capture((), ())).state == "ok"
    assert "fd00::/8 is not captured" in place.ipv6(False, both).said


def test_offload() -> None:
    assert place.offload(TUN).state == "ok"
    assert place.offload({**TUN, "offload": False}).state == "warning"
    assert place.offload(NO_TUN).state == "note"


def test_resolv_conf() -> None:
    assert "/run/x" in place.resolv_conf({"exists": True, "link": "/run/x", "error": ""}, IN_GENERAL).said
    told = place.resolv_conf({"exists": True, "link": "", "error": "Read-only file system"}, IN_GENERAL)
    assert (told.state, "--dns off" in told.todo) == ("warning", True)


@pytest.mark.parametrize(("answers", "state", "said"), [
    ([("10.0.0.2", "NOERROR")], "ok", "10.0.0.2 (1 ms)"), ([], "note", "none"),
    ([("10.0.0.2", ""), ("10.0.0.3", "REFUSED")], "warning", "10.0.0.2 does not answer"),
    ([("10.0.0.2", ""), ("10.0.0.3", "")], "warning", "10.0.0.2, 10.0.0.3 do not answer"),
])
def test_nameservers(answers: list[tuple[str, str]], state: str, said: str) -> None:
    check = place.nameservers([{"server": server, "rcode": rcode, "seconds": 0.001} for server, rcode in answers])
    assert check.state == state
    assert check.said.startswith(said)


def test_overlaps() -> None:
    wanted = tuple(Captured(ipaddress.ip_network(it), "by tun0") for it in ("10.0.0.0/8", "192.168.7.0/24", "fd00::/8"))
    check = place.networks(Capture(wanted, ()), ["10.0.0.0/16", "172.17.0.0/16", "nonsense", "fd00:1::/64"])
    assert check.state == "warning"
    assert [(it["captured"], it["own"]) for it in check.details["overlaps"]] == [
        ("10.0.0.0/8", "10.0.0.0/16"), ("fd00::/8", "fd00:1::/64"),
    ]  # fmt: skip
    assert place.networks(Capture(wanted, ()), ["172.17.0.0/16"]).state == "ok"
    everything = Capture((Captured(ipaddress.ip_network("0.0.0.0/0"), "asked for by --all"),), ())
    assert place.networks(everything, ["172.17.0.0/16"]).state == "ok"  # the longest prefix wins, as anywhere


def test_containers() -> None:
    docker = {"name": "docker0", "networks": ["172.17.0.0/16"]}
    found = place.containers([docker, {"name": "eth0"}, {"name": "br-1\x1b"}])
    assert (found.state, found.details["networks"]) == ("note", ["docker0 172.17.0.0/16", "br-1\\x1b"])


def test_the_line_and_what_asking_costs() -> None:
    assert "at least 80 Mbit/s" in place.line(0.02, 1e7, 1 << 20).said
    assert "kbit/s" in place.line(0.02, 5e4, 1 << 16).said
    assert place.line(0.5, 0, 0).state == "warning"
    assert "awake" in place.awake(3.0, True, True).said
    assert place.awake(3.0, False, True).state == place.awake(3.0, True, False).state == "ok"


def test_who_holds_it() -> None:
    error = BridgeError("t is bridged by me at home already.", "One at a time.", "Say --take-over.")
    assert place.held(error, ours=False).exit_code == 1
    assert place.held(error, ours=True).state == "note"


@pytest.mark.parametrize("nonsense", [None, 7, "x", [], {"code": {}}, {"a": [1]}, [None, {"name": 5, "networks": {}}],
                                      [{"server": "x", "rcode": "NOERROR", "seconds": 10**400}]])  # fmt: skip
def test_an_agent_that_tells_nonsense(nonsense: Any) -> None:
    """Everything there is becomes a line, and none of it has what a terminal acts upon."""
    names = ("tun", "packet", "resolv_conf", "nameservers", "interfaces", "capabilities", "resolved")
    for hello in ({"facts": nonsense, "user": nonsense}, {"facts": {"subnets": nonsense}, "host": "\x1b[2J"}):
        for check in place.checks(hello, dict.fromkeys(names, nonsense), "auto", IN_GENERAL, Capture((), ())):
            assert "\x1b" not in check.said + check.why + check.todo
