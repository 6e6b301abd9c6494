"""`scutil --dns` of macOS: laptops as they are, written down after the manual's and Apple's own examples."""

from __future__ import annotations

from netbridge.bridge.dns.scutil import parse
from netbridge.bridge.dns.systemnames import DomainResolver, SystemNames

AT_HOME = """\
DNS configuration

resolver #1
  search domain[0] : fritz.box
  nameserver[0] : 192.168.178.1
  nameserver[1] : fd00::e228:6dff:fe12:3456
  if_index : 14 (en0)
  flags    : Request A records, Request AAAA records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : local
  options  : mdns
  timeout  : 5
  flags    : Request A records, Request AAAA records
  reach    : 0x00000000 (Not Reachable)
  order    : 300000

resolver #3
  domain   : 254.169.in-addr.arpa
  options  : mdns
  timeout  : 5
  flags    : Request A records, Request AAAA records
  reach    : 0x00000000 (Not Reachable)
  order    : 300200

DNS configuration (for scoped queries)

resolver #1
  search domain[0] : fritz.box
  nameserver[0] : 192.168.178.1
  if_index : 14 (en0)
  flags    : Scoped, Request A records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)
"""

SPLIT_VPN = """\
DNS configuration

resolver #1
  search domain[0] : Corp.Example.
  search domain[1] : fritz.box
  nameserver[0] : 192.168.178.1
  if_index : 14 (en0)
  flags    : Request A records
  reach    : 0x00020002 (Reachable,Directly Reachable Address)

resolver #2
  domain   : corp.example
  nameserver[0] : 10.20.0.53
  nameserver[1] : 10.20.0.54
  if_index : 22 (utun4)
  flags    : Supplemental, Request A records
  reach    : 0x00000003 (Reachable,Transient Connection)
  order    : 102400

resolver #3
  domain   : corp.example
  nameserver[0] : 10.20.9.53
  if_index : 23 (utun5)
  flags    : Supplemental, Request A records
  reach    : 0x00000002 (Reachable)
  order    : 101200

resolver #4
  domain   : lab.corp.example
  nameserver[0] : fe80::1%utun4
  nameserver[1] : not an address
  port     : 5353
  timeout  : 3
  flags    : Request A records, Request AAAA records
  reach    : 0x00000002 (Reachable)

resolver #5
  domain   : nobody.example
  flags    : Request A records
  reach    : 0x00000000 (Not Reachable)

resolver #6
  domain   : local
  options  : mdns
  timeout  : 5
  order    : 300000

DNS configuration (for scoped queries)

resolver #1
  domain   : scoped.example
  nameserver[0] : 10.20.0.53
  if_index : 22 (utun4)
  flags    : Scoped, Request A records
"""


def test_a_plain_network_has_search_domains_only() -> None:
    assert parse(AT_HOME) == SystemNames(search=("fritz.box",))


def test_a_vpn_has_resolvers_for_its_domains() -> None:
    assert parse(SPLIT_VPN) == SystemNames(
        search=("corp.example", "fritz.box"),
        routing=("corp.example", "lab.corp.example"),
        resolvers=(
            DomainResolver("corp.example", ("10.20.0.53", "10.20.0.54"), order=102400),
            DomainResolver("corp.example", ("10.20.9.53",), order=101200),
            DomainResolver("lab.corp.example", ("fe80::1%utun4",), port=5353, timeout=3),
        ),
    )


def test_the_first_resolvers_domain_is_searched_where_it_has_no_list() -> None:
    assert parse("resolver #1\n  domain   : old.example\n  nameserver[0] : 192.0.2.1\n").search == ("old.example",)


def test_a_first_resolver_for_one_domain_is_no_default() -> None:
    """Without a network at all, only files in /etc/resolver are left."""
    said = parse("resolver #1\n  domain   : corp.test\n  nameserver[0] : 127.0.0.1\n  flags    : Supplemental\n")
    assert said == SystemNames((), ("corp.test",), (DomainResolver("corp.test", ("127.0.0.1",)),))


def test_a_resolver_that_asks_neighbours_is_no_nameserver_of_a_domain() -> None:
    said = "resolver #1\nresolver #2\n  domain : local\n  options : mdns\n  nameserver[0] : 192.0.2.1\n"
    assert parse(said) == SystemNames()
    assert parse(said.replace("mdns", "other")).routing == ("local",)


def test_anything_else_says_nothing() -> None:
    nothing = "No DNS configuration available\n"
    for text in ("", nothing, "  nameserver[0] : 192.0.2.1\n", "resolver #1\n  port : x\n\0"):
        assert parse(text) == SystemNames()
    odd = "resolver #1\nresolver #2\n  domain : a.b\n  nameserver[0] : 192.0.2.1\n  port     : ²\n  order    : -1\n"
    assert parse(odd).resolvers == (DomainResolver("a.b", ("192.0.2.1",)),)
