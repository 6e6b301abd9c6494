"""resolv.conf and the hosts file: what is read, and that changes are seen."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest

from netbridge.bridge.dns.hosts import Hosts
from netbridge.bridge.dns.resolvconf import parse_resolv_conf, plain_address, socket_address
from netbridge.bridge.dns.watched import WatchedFile


def test_resolv_conf() -> None:
    config = parse_resolv_conf(
        "# nameserver 9.9.9.9\n; comment\nnameserver 10.0.0.53 # the VPN's\nnameserver  fe80::1%eth0\noptions ndots:2\n"
        "domain old.example\nsearch Corp.Example. lab.example corp.example\nnameserver 10.0.0.53\nnameserver nonsense\n"
        "nameserver ::ffff:10.0.0.54\nnameserver 10.0.0.55\nnameserver\n"
    )
    assert config.nameservers == ("10.0.0.53", "fe80::1%eth0", "10.0.0.54")
    assert config.search == ("corp.example", "lab.example")
    assert parse_resolv_conf("") == parse_resolv_conf("\0\xff garbage\n")


def test_addresses() -> None:
    assert plain_address("FD00:0::1") == "fd00::1"
    assert plain_address("localhost") is None
    assert socket_address("fe80::1%lo", 53)[1] == ("fe80::1", 53, 0, 1)
    with pytest.raises(OSError, match="no interface"):
        socket_address("fe80::1%no-such-0", 53)


def test_hosts() -> None:
    hosts = Hosts(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 laptop\n0.0.0.0 ads.example\nfe80::1 router\n"
        "10.1.2.3 DB.corp.example db # primary\nfd00::3 db.corp.example\n10.1.2.4 db.corp.example\nbroken line\n"
        "10.1.2.5\n"
    )
    assert sorted(hosts.addresses) == ["db", "db.corp.example"]
    assert [str(each) for each in hosts.addresses["db.corp.example"]] == ["10.1.2.3", "fd00::3", "10.1.2.4"]
    assert hosts.names[ipaddress.ip_address("10.1.2.3")] == ["DB.corp.example"]


def test_a_file_is_read_again_when_it_changed_was_replaced_or_vanished(tmp_path: Path) -> None:
    path = tmp_path / "file"
    reads: list[str] = []

    def parse(text: str) -> str:
        reads.append(text)
        return text

    watched = WatchedFile(str(path), parse)
    assert watched.value == ""
    assert not watched.refresh()
    path.write_text("one")
    assert watched.refresh()
    assert watched.value == "one"
    assert not watched.refresh()
    status = path.stat()
    (tmp_path / "new").write_text("two")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))  # only the inode tells
    os.rename(tmp_path / "new", path)
    assert watched.refresh()
    assert watched.value == "two"
    path.unlink()
    assert watched.refresh()
    assert watched.value == ""
    assert not watched.refresh()
    assert reads == ["", "", "one", "two", ""]  # the first is the empty file's meaning
