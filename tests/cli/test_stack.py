"""`netbridge stack`: what it prints, and what it says to arguments that make no sense (on a TUN: tests/net)."""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface
from pathlib import Path

import pytest

from netbridge.bridge import tunside
from netbridge.cli.program import run
from netbridge.cli.stack import bits


def test_loopback_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stack", "loopback", "--seconds", "0.1", "--loss", "1%", "--delay", "1", "--rate", "50M"]) == 0
    out, err = capsys.readouterr()
    assert not err  # no terminal, no progress
    assert re.search(r"throughput, sending +[\d.]+ [kM]bit/s", out), out
    assert re.search(r"round trip, median +\d+\.\d ms +99 % within ", out), out
    assert re.search(r"connections +\d+/s", out), out


def test_loopback_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--seed", "7", "--mtu", "600", "--reorder", "2", "--rate", "1g", "--no-offload"]
    assert run(["stack", "loopback", "--json", "--seconds", "0.1", *line]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["conditions"] == {
        "loss": 0.0, "delay": 0.0, "reorder": 0.02, "rate": 125e6, "seed": 7, "mtu": 600, "offload": False,
    }  # fmt: skip
    assert told["sent"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["loopback", "--loss", "101"], "--loss is not '101'"), (["loopback", "--loss", "100"], "below 100 %"),
        (["loopback", "--rate", "fast"], "--rate is not 'fast'"), (["loopback", "--rate", "12"], "--rate is not '12'"),
        (["loopback", "--delay", "nan"], "--delay"), (["loopback", "--mtu", "9"], "An MTU is 68"),
        (["loopback", "--seconds", "0"], "3600 seconds"),
        (["serve", "--tun", "nbz", "--address", "10.8.0.2/33"], "is no address"),
        (["serve", "--tun", "nbz", "--address", "10.8.0.2"], "no room for the kernel"),
        (["serve", "--tun", "nbz", "--address", "10.8.0.2/24", "--route", "10.0.0.0/8"], "Add --exit."),
        (["serve", "--tun", "nbz", "--address", "10.8.0.2/24", "--mtu", "5"], "An MTU is not 5."),
        (["serve", "--tun", "nbz", "--address", "10.8.0.2/24", "--pcap", "/nowhere/x"], "cannot be written"),
        (["serve", "--address", "10.8.0.2/24"], "--tun"), (["dial", "10.8.0.1", "80", "--tun", "nbz"], "--address"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)  # fmt: skip
def test_what_makes_no_sense_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stack", *words]) == (1 if "--pcap" in words else 2)
    out, err = capsys.readouterr()
    assert not out
    assert told in err
    assert "in a way it should not" not in err


@pytest.mark.parametrize(
    ("address", "beside"),
    [
        ("10.8.0.2/24", "10.8.0.1/24"), ("10.8.0.1/24", "10.8.0.2/24"), ("10.8.0.1/30", "10.8.0.2/30"),
        ("10.8.0.0/31", "10.8.0.1/31"), ("10.8.0.1/31", "10.8.0.0/31"), ("10.8.0.1/32", None),
        ("fd00::1/64", "fd00::2/64"), ("fd00::2/64", "fd00::1/64"), ("fd00::/127", "fd00::1/127"),
        ("fd00::1/128", None),
    ],
)  # fmt: skip
def test_the_kernels_address(address: str, beside: str | None) -> None:
    found = tunside.neighbour(ip_interface(address))
    assert (None if found is None else str(found)) == beside


def test_figures_for_people() -> None:
    assert [bits(rate) for rate in (0, 999, 1500, 2.5e6, 3.21e9, 4e12)] == [
        "0 bit/s", "999 bit/s", "1.5 kbit/s", "2.5 Mbit/s", "3.21 Gbit/s", "4e+03 Gbit/s"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    from netbridge.bridge.errors import UsageError
    from netbridge.bridge.served import Offer, Served
    from netbridge.stack import memory_link

    with pytest.raises(UsageError, match="is no folder"):
        Served(memory_link()[0], ["10.8.0.2/24"], Offer(folder=str(tmp_path / "none")))
    for offer in (Offer(exit=True, routes=("10.0.0.1/8",)), Offer(exit=True, allow=("nonsense",))):
        with pytest.raises(UsageError, match="make no sense"):
            Served(memory_link()[0], ["10.8.0.2/24"], offer)
