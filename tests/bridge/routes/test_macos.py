"""macOS: its programs' output, written after their manuals and sources since there is no such machine here. In the last
tests the programs are scripts that print it, run as the real ones would be.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from netbridge.bridge.routes import LocalNetworksError, monitor, notice
from netbridge.bridge.routes.local import Snapshot
from netbridge.bridge.routes.macos import MacNetworks, parse_interfaces, parse_routes
from netbridge.bridge.routes.reachable import reachable

IFCONFIG = """\
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
\tnd6 options=201<PERFORMNUD,DAD>
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=6463<RXCSUM,TXCSUM,TSO4,TSO6,CHANNEL_IO,PARTIAL_CSUM,ZEROINVERT_CSUM>
\tether a4:83:e7:00:00:01
\tinet6 fe80::1c0f:1%en0 prefixlen 64 secured scopeid 0x6
\tinet 192.168.7.20 netmask 0xffffff00 broadcast 192.168.7.255
\tinet6 fd00:7::20 prefixlen 64 autoconf secured
\tmedia: autoselect
\tstatus: active
en5: flags=8822<BROADCAST,SMART,SIMPLEX,MULTICAST> mtu 1500
utun0: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1500
\tinet6 fe80::aa:1%utun0 prefixlen 64 scopeid 0xd
utun4: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1380
\tinet 10.8.0.6 --> 10.8.0.5 netmask 0xffffffff
"""

INET = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.7.1        UGScg                 en0
default            link#22            UCSIg               utun4
10.8.0.5           10.8.0.6           UH                  utun4
10.20/16           10.8.0.5           UGSc                utun4
10.30.4/22         link#22            UCS                 utun4
127                127.0.0.1          UCS                   lo0
127.0.0.1          127.0.0.1          UH                    lo0
169.254            link#6             UCS                   en0      !
172.20             192.168.7.2        UGSc                  en0
192.168.7          link#6             UCS                   en0      !
192.168.7.1/32     link#6             UCS                   en0      !
192.168.7.1        0:11:22:33:44:55   UHLWIir               en0   1190
192.168.7.9        0:11:22:33:44:99   UHLWI                 en0    200
192.168.7.20/32    link#6             UCS                   en0      !
198.51.100.77      192.168.7.1        UGHS                  en0
10.66/16           127.0.0.1          UGSB                  lo0
224.0.0/4          link#6             UmCS                  en0      !
255.255.255.255/32 link#6             UCS                   en0      !
"""

INET6 = """\
Routing tables

Internet6:
Destination                             Gateway                                 Flags        Refs      Use    Mtu          Netif Expire
default                                 fe80::1%en0                             UGcg           12        0   1500            en0
default                                 fe80::%utun0                            UGcIg           0        0   1500          utun0
::1                                     ::1                                     UHL             7        0  16384            lo0
fd00:7::/64                             link#6                                  UC              0        0   1500            en0
fd00:7::20                              a4:83:e7:0:0:1                          UHL             1        0  16384            lo0
fd00:20::/32                            fe80::5%utun4                           UGSc            0        0   1380          utun4
fe80::%lo0/64                           fe80::1%lo0                             UcI             0        0  16384            lo0
ff00::/8                                ::1                                     UmCI            0        0  16384            lo0
"""  # noqa: E501  # as it is printed


def snapshot(inet: str = INET, inet6: str = INET6) -> Snapshot:
    return Snapshot(tuple(parse_interfaces(IFCONFIG)), (*parse_routes(inet, 4), *parse_routes(inet6, 6)))


def captured(inet: str = INET, inet6: str = INET6) -> dict[str, str]:
    return {str(each.network): each.reason for each in reachable(snapshot(inet, inet6))}


def test_interfaces() -> None:
    found = {each.name: (each.up, each.loopback, each.tunnel, each.kind) for each in parse_interfaces(IFCONFIG)}
    assert found == {
        "lo0": (True, True, False, "lo"), "gif0": (False, False, True, "gif"), "en0": (True, False, False, "en"),
        "en5": (False, False, False, "en"), "utun0": (True, False, True, "utun"), "utun4": (True, False, True, "utun"),
    }
    assert list(map(str, snapshot().interface("en0").addresses)) == ["fe80::1c0f:1", "192.168.7.20", "fd00:7::20"]
    assert list(map(str, snapshot().interface("utun4").addresses)) == ["10.8.0.6"]


def test_a_split_tunnel() -> None:
    assert captured() == {
        "10.8.0.5/32": "connected to utun4", "10.20.0.0/16": "routed by 10.8.0.5 on utun4",
        "10.30.4.0/22": "connected to utun4", "172.20.0.0/16": "routed by 192.168.7.2 on en0",
        "192.168.7.0/24": "connected to en0", "192.168.7.1/32": "connected to en0",
        # a documentation address, and so not public; a VPN's server would be left out
        "198.51.100.77/32": "routed by 192.168.7.1 on en0",
        "fd00:7::/64": "connected to en0", "fd00:20::/32": "routed by fe80::5 on utun4",
    }
    assert snapshot().full_tunnel(4) is None
    assert snapshot().full_tunnel(6) is None  # every Mac has scoped default routes into utuns


FULL = {
    "a default route": "default            10.8.0.5           UGScg               utun4\n",
    "two halves": "0/1                10.8.0.5           UGSc                utun4\n"
                  "128.0/1            10.8.0.5           UGSc                utun4\n",
}  # fmt: skip


@pytest.mark.parametrize("form", list(FULL))
def test_a_full_tunnel_captures_private_space(form: str) -> None:
    inet = INET.replace("default            192.168.7.1        UGScg                 en0\n", "") + FULL[form]
    if form == "two halves":
        inet = INET + FULL[form]
    found = captured(inet)
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= found.keys()
    assert found["10.0.0.0/8"] == "all traffic goes through the tunnel utun4"
    assert not {"0.0.0.0/1", "128.0.0.0/1", "fc00::/7"} & found.keys()


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10", "10.0.0.0/8"), ("10.1", "10.1.0.0/8"), ("172.16", "172.16.0.0/16"), ("192.168", "192.168.0.0/24"),
        ("192.168/16", "192.168.0.0/16"), ("10.1.2.3/32", "10.1.2.3/32"), ("100.64/10", "100.64.0.0/10"),
    ],
)
def test_abbreviated_destinations(text: str, network: str) -> None:
    (route,) = parse_routes(f"Destination Gateway Flags Netif Expire\n{text} link#6 UCS en0\n", 4)
    expected = "10.0.0.0/8" if text == "10.1" else network
    assert str(route.network) == expected


@pytest.mark.parametrize(
    "line", ["", "10.1 x", "no.net/work 10.0.0.1 UGS en0", "10&0xff00ff 10.0.0.1 UGS en0", "1 2 3"]
)
def test_what_cannot_be_read_is_left_out(line: str) -> None:
    assert list(parse_routes(f"Destination Gateway Flags Netif Expire\n{line}\n", 4)) == []
    assert list(parse_routes(line, 4)) == []


# --- the watcher ------------------------------------------------------------------------------------------------------

MESSAGES = {
    "RTM_ADD: Add Route: len 132, pid: 0, seq 0, errno 0, flags:<UP,GATEWAY,DONE,STATIC,PRCLONING>": True,
    "RTM_DELETE: Delete Route: len 132, pid: 81, seq 4, errno 0, ifscope 6, flags:<UP,GATEWAY,STATIC,IFSCOPE>": True,
    "RTM_NEWADDR: address being added to iface: len 76, metric 0, flags:<UP>": True,
    "RTM_IFINFO: iface status change: len 112, if# 6, flags:<UP,BROADCAST,b6,RUNNING,SIMPLEX,MULTICAST>": True,
    "RTM_ADD: Add Route: len 132, pid: 0, seq 0, errno 0, ifscope 6, flags:<UP,HOST,DONE,LLINFO,WASCLONED,IFSCOPE>":
        False,
    "RTM_GET: Report Metrics: len 132, pid: 99, seq 1, errno 0, flags:<UP,GATEWAY,DONE,STATIC>": False,
    "RTM_MISS: Lookup failed on this address: len 132, pid: 0, seq 0, errno 0, flags:<DONE>": False,
    "got message of size 132 on Sat Nov  1 12:00:00 2025": False,
    " default 192.168.7.1 default": False,
    "": False,
}  # fmt: skip


@pytest.mark.parametrize("line", list(MESSAGES))
def test_which_messages_are_changes(line: str) -> None:
    assert monitor.tells_of_change(line) == MESSAGES[line]


def test_messages_are_found_however_they_are_cut() -> None:
    text = "".join(f"{line}\n" for line in MESSAGES).encode()
    for size in (1, 7, 100, len(text)):
        ear = monitor.Ear()
        told = [ear.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert any(told)
        if size == 1:
            assert sum(told) == sum(MESSAGES.values())
    assert not monitor.Ear().feed(next(iter(MESSAGES)).encode())  # not whole yet


def script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_the_programs_are_run_and_read(tmp_path: Path) -> None:
    (tmp_path / "inet").write_text(INET)
    (tmp_path / "inet6").write_text(INET6)
    (tmp_path / "ifconfig.txt").write_text(IFCONFIG)
    netstat = script(tmp_path, "netstat", f'cat "{tmp_path}/$3"')
    ifconfig = script(tmp_path, "ifconfig", f'[ "$1" = -a ] && cat "{tmp_path}/ifconfig.txt"')
    assert await MacNetworks(netstat, ifconfig).snapshot() == snapshot()
    for broken in (str(tmp_path / "missing"), script(tmp_path, "broken", "echo no >&2; exit 1")):
        with pytest.raises(LocalNetworksError):
            await MacNetworks(broken, ifconfig).snapshot()


async def test_route_monitor_is_heard_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints about neighbours wakes nobody, a route does; when it ends by itself there is silence."""
    lines = {told: next(line for line in MESSAGES if MESSAGES[line] is told) for told in (True, False)}
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = script(tmp_path, "route", f'[ "$1 $2" = "-n monitor" ] && echo $$ >"{tmp_path}/pid" && exec cat "{fifo}"')
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(monitor, "COMMAND", (command, "-n", "monitor"))
    before = len(os.listdir("/proc/self/fd"))
    heard = asyncio.Event()
    words = 0

    def changed() -> None:
        nonlocal words
        words += 1
        heard.set()

    with notice(changed):
        with open(await asyncio.to_thread(_opened, fifo), "wb", buffering=0) as mouth:
            mouth.write(f"{lines[False]}\n".encode())
            mouth.write(f"{lines[True]}\n{lines[True]}\n".encode())
            async with asyncio.timeout(5):
                await heard.wait()
            assert words == 1
            pid = int((tmp_path / "pid").read_text())
    assert not os.path.exists(f"/proc/{pid}")
    assert len(os.listdir("/proc/self/fd")) == before


def _opened(fifo: Path) -> int:
    return os.open(fifo, os.O_WRONLY)
