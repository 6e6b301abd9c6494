"""What the system says of names: systemd-resolved's domains, whose resolver is whose, reverse names, limits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from netbridge.bridge.dns import linkdomains, systemnames
from netbridge.bridge.dns.reverse import reverse_suffixes
from netbridge.bridge.dns.systemnames import DomainResolver, Names, SystemNames, clean
from netbridge.bridge.dns.upstream import Upstream


def wire(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Upstream]:
    def make(text: str = "", **options: object) -> Upstream:
        path = tmp_path / "resolv.conf"
        path.write_text(text)
        return Upstream(resolv_conf=str(path), hosts="/nonexistent", uplinks="/nonexistent", **options)  # type: ignore[arg-type]

    return make


def test_domains_of_systemd_resolved() -> None:
    """Of all links (0) and of single ones; what only routes is not searched, and `~.` is no suffix."""
    said = '{"type":"a(isb)","data":[[0,"Global.Example",false],[3,"corp.example",false],[3,"lab.example.",true],'
    said += '[4,".",true],[5,"corp.example",false],[5,"w\\u00fcst.example",true]]}'
    assert linkdomains.parse(said) == SystemNames(("global.example", "corp.example"), ("lab.example",))


@pytest.mark.parametrize("said", ["", "[]", "7", '{"data": 7}', '{"data": [[1, 2]]}', '{"data": [[1, 2, 3]]}', "\0"])
def test_what_is_no_answer_of_busctl_says_nothing(said: str) -> None:
    assert linkdomains.parse(said) == SystemNames()


def test_a_domain_is_cleaned() -> None:
    assert clean(".Corp.Example.") == "corp.example"
    for no in (".", "", "a..b", "a b", "a\nnameserver 6.6.6.6", "x" * 64, "ü.example", "a." * 130):
        assert clean(no) == ""


def test_the_longest_domain_has_the_resolver_and_the_lowest_order_comes_first() -> None:
    corp = DomainResolver("corp.example", ("192.0.2.1",), order=2)
    better = DomainResolver("corp.example", ("192.0.2.2",), order=1)
    lab = DomainResolver("lab.corp.example", ("192.0.2.3",), order=9)
    said = SystemNames(resolvers=(lab, corp, better))
    assert said.resolvers_for(wire("x.corp.example")) == [better, corp]
    assert said.resolvers_for(wire("corp.example")) == [better, corp]
    assert said.resolvers_for(wire("x.lab.corp.example")) == [lab]
    for other in ("notcorp.example", "example", "corp.example.org"):
        assert said.resolvers_for(wire(other)) == []
    assert said.resolvers_for(b"\0") == []
    # a label that holds the bytes of a whole domain in wire form is no name below it
    inside = b"\x0ex" + wire("corp.example")[:13] + b"\0"
    assert said.resolvers_for(inside) == []


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["10.20.0.0/16"], ["20.10.in-addr.arpa"]),
        (["10.0.0.0/8", "10.20.0.0/16"], ["10.in-addr.arpa"]),
        (["192.168.4.0/22"], [f"{number}.168.192.in-addr.arpa" for number in (4, 5, 6, 7)]),
        (["172.16.0.0/12"], [f"{number}.172.in-addr.arpa" for number in range(16, 32)]),
        (["10.1.2.3/32"], ["3.2.1.10.in-addr.arpa"]),
        (["10.1.2.8/31"], ["8.2.1.10.in-addr.arpa", "9.2.1.10.in-addr.arpa"]),
        (["0.0.0.0/0", "::/0"], ["in-addr.arpa", "ip6.arpa"]),
        (["fd99::/64"], ["0.0.0.0.0.0.0.0.0.0.0.0.9.9.d.f.ip6.arpa"]),
        (["fd00::/7"], ["c.f.ip6.arpa", "d.f.ip6.arpa"]),
    ],
)
def test_reverse_names_of_networks(networks: list[str], expected: list[str]) -> None:
    assert list(reverse_suffixes(networks, 256)) == expected


def test_reverse_names_are_bounded_and_wide_networks_come_first() -> None:
    many = [f"10.{number}.0.0/17" for number in range(100)]
    found = reverse_suffixes([*many, "172.16.0.0/12"], 256)
    assert len(found) == 16 + 128  # one /17, and no room for a second
    assert found[0] == "16.172.in-addr.arpa"
    assert reverse_suffixes([*many, "fd99::/64"], 0) == ()


def test_private_suffixes_and_search_list_of_this_machine(make: Callable[..., Upstream]) -> None:
    """Those the user named, resolv.conf's, the links' (routing ones too), reverse names, and the bridge's own."""
    upstream = make("search corp.test lab.test\n", domains=("asked.test",), last_domain="netbridge.internal")
    upstream.learn(SystemNames(("link.test", "corp.test"), ("routed.test",)), ["10.99.0.0/24"])
    assert upstream.names == Names(
        ("asked.test", "corp.test", "lab.test", "link.test", "routed.test", "0.99.10.in-addr.arpa",
         "netbridge.internal"),
        ("corp.test", "lab.test", "link.test"),
    )  # fmt: skip


def test_suffixes_are_bounded_and_the_bridges_own_is_among_them(make: Callable[..., Upstream]) -> None:
    upstream = make("", domains=[f"{number}.test" for number in range(300)], last_domain="netbridge.internal")
    upstream.learn(captured=["10.128.0.0/9"])
    suffixes = upstream.names.suffixes
    assert len(suffixes) == 256
    assert suffixes[-1] == "netbridge.internal"


def test_what_changes_the_resolver_grows_its_generation_and_nothing_else_does(
    make: Callable[..., Upstream], tmp_path: Path
) -> None:
    upstream = make("nameserver 127.0.0.53\n")
    seen = [upstream.generation(), upstream.generation()]
    upstream.learn(SystemNames(), [])
    upstream.learn(None, ["10.0.0.0/8"])  # what is captured changes who is asked first, not what he says
    seen.append(upstream.generation())
    assert len(set(seen)) == 1
    upstream.learn(SystemNames(resolvers=(DomainResolver("corp.test", ("192.0.2.1",)),)))
    seen.append(upstream.generation())
    upstream.network_changed()
    seen.append(upstream.generation())
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.54\n")
    seen.append(upstream.generation())
    assert seen[2:] == sorted(set(seen))


async def test_the_system_is_asked_by_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("macOS is asked by scutil")
    monkeypatch.setattr(linkdomains, "RUNS", str(tmp_path / "nothing"))
    assert await systemnames.system_names() == SystemNames()  # no resolved, and nobody is asked
    monkeypatch.setattr(linkdomains, "RUNS", str(tmp_path))
    for command, expected in {
        ("echo", '{"data":[[3,"corp.test",true]]}'): SystemNames((), ("corp.test",)),
        ("false",): None,
        ("/nonexistent/busctl",): None,
    }.items():
        monkeypatch.setattr(linkdomains, "COMMAND", command)
        assert await systemnames.system_names() == expected


async def test_a_program_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemnames, "PATIENCE", 0.05)
    assert await systemnames.output(("sleep", "86396")) is None
