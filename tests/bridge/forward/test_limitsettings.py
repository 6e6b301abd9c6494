"""Limits as settings, and the document about them, which is made from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from netbridge.bridge.forward.limits import MIB, Limits
from netbridge.bridge.forward.limitsettings import FIELDS, amount, parse_limits, table

DOCUMENT = Path(__file__).parents[3] / "docs/limits.md"


def test_every_limit_has_a_reason_a_unit_and_a_range_around_its_default() -> None:
    for name, field in FIELDS.items():
        about = field.metadata
        assert about["least"] <= about["default"] <= about["most"], name
        assert about["unit"], name
        assert about["reason"].endswith("."), name
        assert len(about["reason"]) > 30, name
        assert field.type == ("float" if about["unit"] == "seconds" else "int"), name
    assert Limits() == Limits(**{field.name: field.metadata["default"] for field in dataclasses.fields(Limits)})


def test_the_document_says_what_the_code_does() -> None:
    """`python -m netbridge.bridge.forward.limitsettings` prints the table to put there."""
    lines = DOCUMENT.read_text().splitlines()
    first = lines.index(next(table()))
    assert lines[first : first + len(FIELDS) + 2] == list(table())


@pytest.mark.parametrize(("value", "expected"), [
    ("tcp-flows=100", {"tcp_flows": 100}),
    ("tcp-flows=100  icmp_flows=20", {"tcp_flows": 100, "icmp_flows": 20}),
    (["tcp-flows = 100", "tcp-flows=200"], {"tcp_flows": 200}),
    ({"tcp-connect-timeout": 2.5, "udp_idle_dns": 3}, {"tcp_connect_timeout": 2.5, "udp_idle_dns": 3.0}),
    ("tcp-connect-timeout=45s", {"tcp_connect_timeout": 45.0}),
    ("bytes-per-flow=4MiB", {"bytes_per_flow": 4 * MIB}),
    ("bytes-per-flow=1.5m bytes-in-all=1G", {"bytes_per_flow": 3 * MIB // 2, "bytes_in_all": 1024 * MIB}),
    ("", {}),
])
def test_settings(value: object, expected: dict[str, float]) -> None:
    found = parse_limits(value)
    assert found == expected
    assert {name: type(number) for name, number in found.items()} == {n: type(number) for n, number in expected.items()}


@pytest.mark.parametrize(("value", "said"), [
    ("tcp-flow=5", "there is no limit 'tcp-flow'; perhaps tcp-flows was meant"),
    ("zzz=5", "there are tcp-flows, tcp-half-open"),
    ("tcp-flows", "'tcp-flows' is no limit such as tcp-flows=1000"),
    ("tcp-flows=1", "tcp-flows is a whole number of flows from 8 to 65,536, not '1' (16,384 unless set: Open"),
    ("tcp-flows=70000", "from 8 to 65,536"),
    ("tcp-flows=9.5", "a whole number"),
    ("tcp-flows=8k", "a whole number"),
    ("tcp-flows=30s", "a whole number of flows"),
    ("dns-sockets=30s", "a whole number of descriptors"),
    ("bytes-per-flow=30s", "a whole number of bytes"),
    ("tcp-connect-timeout=30b", "a number of seconds"),
    ("tcp-connect-timeout=0", "tcp-connect-timeout is a number of seconds from 1 to 600"),
    ("tcp-connect-timeout=nan", "number of seconds"),
    ({"tcp-flows": 10**400}, "a whole number of flows"),
    ({"tcp-connect-timeout": -(10**400)}, "a number of seconds"),
    ("tcp-connect-timeout=inf", "number of seconds"),
    ("icmp-flows=-1", "from 1 to 16,384"),
    ({"icmp-flows": True}, "from 1 to 16,384"),
    ({"icmp-flows": [5]}, "from 1 to 16,384"),
    ({"icmp-flows": float("nan")}, "from 1 to 16,384"),
    (["tcp-flows=10", 5], "limits are a table"),
    (7, "limits are a table"),
    ("bytes-per-flow=" + "9" * 500, "from 65,536 to 1,073,741,824"),
])
def test_refused_settings_say_name_range_unit_and_reason(value: object, said: str) -> None:
    with pytest.raises(ValueError, match="limit") as caught:
        parse_limits(value)
    assert said in str(caught.value)


def test_amounts_for_people() -> None:
    assert amount(8 * MIB, "bytes") == "8 MiB"
    assert amount(1500, "bytes") == "1,500 bytes"
    assert amount(30.0, "seconds") == "30 s"
    assert amount(0.5, "seconds") == "0.5 s"
