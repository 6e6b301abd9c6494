"""What an agent says of its packet capture, and what becomes of it here."""

from __future__ import annotations

from typing import Any

import pytest

from netbridge.bridge import events
from netbridge.bridge.errors import TargetLacksError, UsageError
from netbridge.bridge.options import Options
from netbridge.bridge.packetcapture import by_packets, costs, sources
from netbridge.bridge.startfaults import refused_setup, refused_start
from netbridge.bridge.transport.mend import IN_GENERAL
from netbridge.cli.render import line, state

READY: dict[str, Any] = {
    "type": "ready", "tun": "eth0", "capture": "packet", "sources": ["10.0.0.0/16", "fd30::/64"], "offload": True,
    "sums": False, "no_tun": "there is no /dev/net/tun",
}  # fmt: skip


def test_sources_of_the_interface() -> None:
    assert by_packets(READY)
    assert sources(READY) == ("10.0.0.0/16", "fd30::/64")


@pytest.mark.parametrize("told", [None, "10.0.0.0/8", 7, {"10.0.0.0/8": 1}, ["nonsense", None, 300, "10.0.0.1/8"]])
def test_nonsense_is_no_source(told: object) -> None:
    assert all(text.startswith("0.0.1.44") for text in sources({**READY, "sources": told}))  # 300 is an address


def test_many_sources_are_bounded() -> None:
    assert len(sources({**READY, "sources": [f"10.{number}.0.0/16" for number in range(200)]})) == 64


def test_a_tun_has_no_sources() -> None:
    assert sources({**READY, "capture": "tun"}) == ()
    assert not by_packets({"type": "ready"})


def test_costs_are_told() -> None:
    found = costs(READY, asked=False, mend=IN_GENERAL)
    assert "goes to the gateway" in found
    assert '"--device=/dev/net/tun"' in found
    assert "there is no /dev/net/tun" in found
    assert "slower" not in found
    assert "slower" in costs({**READY, "sums": True}, asked=False, mend=IN_GENERAL)
    assert "devcontainer.json" not in costs(READY, asked=True, mend=IN_GENERAL)
    assert "\x1b" not in costs({**READY, "tun": "\x1b[2J", "no_tun": "\x1b[2J"}, asked=False, mend=IN_GENERAL)


@pytest.mark.parametrize("code", ["no_packet", "no_tun", "no_net_admin"])
def test_neither_is_to_be_had(code: str) -> None:
    error = refused_setup({"code": code, "detail": "there is no /dev/net/tun; CAP_NET_RAW is missing"})
    assert isinstance(error, TargetLacksError)
    assert error.exit_code == 5
    for words in ("--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun", '"privileged": true', "rebuild"):
        assert words in error.todo


def test_sudo_that_asks_for_a_password() -> None:
    error = refused_start("sudo-refused vscode|sudo: a password is required")
    assert error.exit_code == 5
    for words in ("vscode ALL=(ALL) NOPASSWD: ALL", '"remoteUser": "root"', "rebuild"):
        assert words in error.todo


def test_option() -> None:
    assert Options.gather({"target": "ssh://dev"}, {}).capture == "auto"
    assert Options.gather({}, {"NETBRIDGE_CAPTURE": "packet"}).capture == "packet"
    for flags in ({"capture": "pcap"}, {"target": "sandbox", "capture": "packet"}):
        with pytest.raises(UsageError):
            Options.gather(flags, {})


def test_shown() -> None:
    connected = events.Connected("t", "h", "u", "6.1", "3.11", "eth0", 1500, True, ("10.0.0.0/16",), 1.0, "packet")
    assert "by a packet socket on eth0" in line(connected)
    status = {"number": 0, "target": "t", "state": "running", "pid": 1, "uptime": 1.0}
    assert any("packet socket on eth0" in text for text in state({**status, "agent": READY}))
    assert "  capture: by nb0" in state({**status, "agent": {"capture": "tun", "tun": "nb0"}})
