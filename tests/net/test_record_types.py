"""Every record type through the bridge as it is, in both faces of the service: compared with BIND asked directly."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP
from tests.world.machine import Output, wait_until

from .conftest import TARGET
from .programs import changed, dig, ended

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
VPN = "10.96.0.1"
"""BIND's address."""

TYPES = """
@      SOA   ns hostmaster 2024010101 3600 600 86400 300
@      NS    ns
@      MX    10 mail
@      TXT   "v=one" "second \\" string" ""
@      CAA   128 issue "ca.example; policy=ev"
@      RP    admin.types.test. txt
@      DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
ns     A     10.99.0.2
mail   A     10.99.0.2
host   A     10.99.0.2
host   AAAA  fd99::2
Alias  CNAME HoSt
d      DNAME types.test.
_sip._tcp SRV 1 2 5060 host
web    HTTPS 1 . alpn="h2,h3" port=8443 ipv4hint=10.99.0.2 ipv6hint=fd99::2
svc    SVCB  1 host key65333=ex1
null   TYPE10 \\# 5 0001feff41
odd    TYPE65280 \\# 4 deadbeef
none   TYPE65281 \\# 0
loc    LOC   52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
ptr    NAPTR 100 50 "s" "http+I2L+I2C+I2R" "" _http._tcp
ssh    SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789
_443._tcp TLSA 3 1 1 0d6fce3320315023ff499a3f3de1362c88f8380311ac8c036890dab13243aeb6
*.wild A     10.99.0.2
"""
QUESTIONS = [
    "host A", "host AAAA", "alias CNAME", "alias A", "ALIAS AAAA", "@ NS", "@ SOA", "@ MX", "@ TXT", "@ CAA", "@ RP",
    "@ DNSKEY", "null NULL", "null TYPE10", "odd TYPE65280", "none TYPE65281", "_sip._tcp SRV", "web HTTPS", "svc SVCB",
    "host.d A", "d DNAME", "loc LOC", "ptr NAPTR", "ssh SSHFP", "_443._tcp TLSA", "a.b.wild A", "host ANY",
    "host TYPE65535", "host MX", "nobody A", "2.0.99.10.in-addr.arpa. PTR", "odd.chaos.test. TXT CH",
    "host.hesiod.test. TXT HS",
]  # fmt: skip


@pytest.fixture
def bind(idle: World) -> Iterator[str]:
    """BIND on the VPN's address, with a zone of every type and one of each other class."""
    if not shutil.which("named", path="/usr/sbin:/usr/bin"):
        pytest.skip("needs named (package bind9)")
    corp = idle.corp
    folder = corp.folder / "bind"
    folder.mkdir(exist_ok=True)
    soa = "@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns.types.test.\n"
    (folder / "types").write_text("$TTL 3600\n" + TYPES)
    (folder / "reverse").write_text(f"$TTL 3600\n{soa}2.0 PTR host.types.test.\n")
    for name, rclass in (("chaos", "CH"), ("hesiod", "HS")):
        records = f'@ {rclass} SOA ns h 1 2 3 4 5\n@ {rclass} NS ns\n* {rclass} TXT "{name}"\n'
        (folder / name).write_text(f"$TTL 3600\n{records}")
    zones = {
        "in": {"types.test": "types", "99.10.in-addr.arpa": "reverse"},
        "ch": {"chaos.test": "chaos"},
        "hs": {"hesiod.test": "hesiod"},
    }
    views = ""
    for rclass, files in zones.items():
        each = [f'zone "{zone}" {rclass} {{ type primary; file "{folder}/{file}"; }};' for zone, file in files.items()]
        views += f'view "{rclass}" {rclass} {{ {" ".join(each)} }};\n'
    (folder / "named.conf").write_text(
        f'options {{ directory "{folder}"; listen-on {{ {VPN}; }}; listen-on-v6 {{ none; }}; recursion no;'
        ' allow-query { any; }; pid-file none; session-keyfile none; version "here"; dnssec-validation no;'
        " minimal-responses yes; };\ncontrols {};\n" + views
    )
    corp.ip(f"addr add {VPN}/32 dev lo")
    with ended(corp, "named"):
        corp.start("named", "-f", "-c", folder / "named.conf", log="named.log")
        wait_until(lambda: corp.answers(VPN, 53), "named")
        idle.laptop.ip(f"route add 10.96.0.0/24 via {CORP[4]}")
        yield VPN
    idle.laptop.ip("route del 10.96.0.0/24")
    corp.ip(f"addr del {VPN}/32 dev lo")


def answer(output: Output) -> tuple[str, list[str]]:
    """The status and the records of what dig printed; TTLs may have counted down."""
    records = [line.split(None, 2) for line in output.stdout.splitlines() if line and line[0] != ";"]
    status = output.stdout.partition("status: ")[2].partition(",")[0]
    return status, sorted(f"{name} {rest}" for name, _ttl, rest in records)


def lowered(output: Output) -> tuple[str, list[str]]:
    status, records = answer(output)
    return status, [record.lower() for record in records]


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_every_type_is_the_same_asked_directly_and_through_the_bridge(
    idle: World, bind: str, start: Start, transport: str
) -> None:
    """A, AAAA, CNAME, NS, TXT, SOA, PTR, NULL, MX, SRV, HTTPS/SVCB, CAA, ANY, unknown types and other classes; first
    from the nameserver, then from the cache."""
    with changed(idle.laptop.folder / "resolv.conf", f"nameserver {bind}\nsearch types.test\n"):
        start(TARGET, "--ssh", "openssh", "--dns", "all").ready()
        found = 0
        for question in QUESTIONS:
            name, rtype, *rclass = question.split()
            name = "types.test." if name == "@" else name if name.endswith(".") else f"{name}.types.test."
            words = (transport, "-q", name, "-t", rtype, *(["-c", *rclass] if rclass else []))
            # A DNAME makes names of the asked one, and case says nothing (RFC 4343).
            known = lowered if name.startswith("host.d.") else answer
            there = known(dig(idle.laptop, f"@{bind}", *words))
            assert there[0] in {"NOERROR", "NXDOMAIN"}, question
            found += bool(there[1])
            for turn in ("asked", "cached"):
                assert known(dig(idle.codespace, *words)) == there, (question, turn)
        assert found >= len(QUESTIONS) - 3  # no such type, no such record and no such name have none
