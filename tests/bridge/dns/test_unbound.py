"""A real resolver (unbound) behind the service, a real client (dig) before it: every record type, over UDP and TCP."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

UNBOUND = shutil.which("unbound") or shutil.which("unbound", path="/usr/sbin")
DIG = shutil.which("dig")

pytestmark = pytest.mark.skipif(
    not (UNBOUND and DIG), reason="unbound or dig is missing: scripts/system-packages test"
)

ADDRESS = "127.100.1.1"
RECORDS = """
host.corp.example. 60 IN A 10.20.30.40
host.corp.example. 60 IN AAAA fd00:20::40
alias.corp.example. 60 IN CNAME host.corp.example.
corp.example. 60 IN NS ns.corp.example.
corp.example. 60 IN SOA ns.corp.example. admin.corp.example. 1 3600 600 86400 15
corp.example. 60 IN MX 10 mail.corp.example.
text.corp.example. 60 IN TXT "one" "two words"
_db._tcp.corp.example. 60 IN SRV 1 2 5432 host.corp.example.
null.corp.example. 60 IN TYPE10 \\# 5 0001feff41
web.corp.example. 60 IN HTTPS 1 . alpn=h2 ipv4hint=10.20.30.40
corp.example. 60 IN CAA 0 issue "ca.corp.example"
odd.corp.example. 60 IN TYPE65400 \\# 4 deadbeef
"""
POINTER = "40.30.20.10.in-addr.arpa. 60 IN PTR host.corp.example."
BIG = "".join(f'big.corp.example. 60 IN TXT "{number:03d} {"x" * 200}"\n' for number in range(20))


@pytest.fixture(scope="module")
def unbound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A resolver with a zone of its own; its port."""
    folder = tmp_path_factory.mktemp("unbound")
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port = int(probe.getsockname()[1])
    (folder / "zone").write_text(RECORDS + BIG)  # as a zone of its own: unbound answers ANY only so
    (folder / "unbound.conf").write_text(
        f"server:\n  interface: {ADDRESS}\n  port: {port}\n  do-daemonize: no\n  username: ''\n  chroot: ''\n"
        f"  directory: '{folder}'\n  pidfile: ''\n  use-syslog: no\n  logfile: ''\n"
        "  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  module-config: iterator\n"
        f"  local-zone: 10.in-addr.arpa. static\n  local-data: '{POINTER}'\n"
        f"auth-zone:\n  name: corp.example.\n  zonefile: '{folder}/zone'\n  for-upstream: no\n"
        "remote-control:\n  control-enable: no\n"
    )
    log = (folder / "log").open("wb")
    server = subprocess.Popen([str(UNBOUND), "-d", "-c", str(folder / "unbound.conf")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((ADDRESS, port), 1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, "unbound does not start"
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)
        log.close()


@pytest.fixture
async def service(world: Any, unbound: int) -> Any:
    """The service, with unbound for its local resolver."""
    world.port = unbound
    world.use(ADDRESS)
    return await world.service(attempt_timeout=2, total_timeout=4)


async def dig(world: Any, *arguments: str) -> str:
    """What dig prints."""
    process = await asyncio.create_subprocess_exec(
        str(DIG), "@127.100.0.100", "-p", str(world.port), "+tries=1", "+time=4", *arguments,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "HOME": "/nonexistent"},
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert "WARNING" not in text, text
    return text


CASES = [
    ("host.corp.example A", ["10.20.30.40"]),
    ("host.corp.example AAAA", ["fd00:20::40"]),
    ("alias.corp.example CNAME", ["host.corp.example."]),
    ("corp.example NS", ["ns.corp.example."]),
    ("text.corp.example TXT", ['"one" "two words"']),
    ("corp.example SOA", ["ns.corp.example. admin.corp.example. 1 3600 600 86400 15"]),
    ("-x 10.20.30.40", ["host.corp.example."]),
    ("null.corp.example NULL", ["\\# 5 0001FEFF41"]),
    ("corp.example MX", ["10 mail.corp.example."]),
    ("_db._tcp.corp.example SRV", ["1 2 5432 host.corp.example."]),
    ("web.corp.example HTTPS", ["1 . alpn=\"h2\" ipv4hint=10.20.30.40"]),
    ("corp.example CAA", ['0 issue "ca.corp.example"']),
    ("odd.corp.example TYPE65400", ["\\# 4 DEADBEEF"]),
    ("host.corp.example ANY", ["10.20.30.40", "fd00:20::40"]),
]


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize(("question", "expected"), CASES, ids=[case[0] for case in CASES])
async def test_every_type_twice_by_both_transports(
    world: Any, service: Any, transport: str, question: str, expected: list[str]
) -> None:
    for turn in range(2):
        text = await dig(world, transport, "+short", *question.split())
        assert sorted(text.splitlines()) == sorted(expected)
        assert service.counters.cache_hits == turn


async def test_dig_with_cookies_dnssec_and_a_question_in_mixed_case(world: Any, service: Any) -> None:
    text = await dig(world, "+cookie", "+dnssec", "HoSt.CoRp.ExAmPlE")
    assert "HoSt.CoRp.ExAmPlE." in text
    assert "status: NOERROR" in text
    assert "flags: do; udp: 1232" in text


async def test_no_data_and_no_such_name(world: Any, service: Any) -> None:
    for _ in range(2):
        text = await dig(world, "text.corp.example", "AAAA")
        assert "status: NOERROR" in text
        assert "ANSWER: 0" in text
        text = await dig(world, "no-such-name.corp.example", "A")
        assert "status: NXDOMAIN" in text
        assert "SOA" in text
    assert service.counters.cache_hits == 2


@pytest.mark.parametrize("options", [[], ["+noedns"], ["+bufsize=4096"]], ids=["edns", "plain", "4096"])
async def test_a_big_answer_comes_over_tcp_after_the_tc_bit(world: Any, service: Any, options: list[str]) -> None:
    text = await dig(world, "+ignore", *options, "big.corp.example", "TXT")
    assert " tc " in text
    assert "ANSWER: 0" in text
    text = await dig(world, *options, "+short", "big.corp.example", "TXT")
    assert len(text.splitlines()) == 20
    assert service.upstream.counters.sent_tcp == 1  # the local resolver was asked over TCP once, too
    assert service.counters.cache_hits >= 1


async def test_edns_versions_opcodes_and_transfers(world: Any, service: Any) -> None:
    assert "status: BADVERS" in await dig(world, "+edns=1", "+noednsneg", "host.corp.example")
    assert "status: NOTIMP" in await dig(world, "+noedns", "+opcode=UPDATE", "host.corp.example")
    assert "Transfer failed" in await dig(world, "corp.example", "AXFR")


async def test_many_questions_on_one_connection_of_dig(world: Any, service: Any) -> None:
    text = await dig(world, "+tcp", "+keepopen", "+short", "host.corp.example", "corp.example", "MX")
    assert "10.20.30.40" in text
    assert "10 mail.corp.example." in text
    assert service.counters.tcp_connections == 1
