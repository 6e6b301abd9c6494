"""What people run in a codespace: each program reaches corp through each transport, by IPv4 and by IPv6."""

from __future__ import annotations

import json

import pytest

from tests.world import World, servers
from tests.world.addresses import CORP, LAPTOP_IN_CORP, url
from tests.world.servers import BIG_TEXTS

from .conftest import CONTROL, Through

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@both
def test_curl(through: Through, version: int) -> None:
    assert through.run("curl", "-sS", "-m5", f"http://{url(CORP[version])}/").check().stdout == "<h1>corp</h1>\n"


@both
def test_server_sees_the_laptop(through: Through, version: int) -> None:
    seen = through.run("curl", "-sS", "-m5", f"http://{url(CORP[version])}/whoami").check().stdout.strip()
    assert seen == LAPTOP_IN_CORP[version]


def test_curl_by_name(through: Through) -> None:
    for option in ("-4", "-6"):
        assert through.run("curl", "-sS", "-m5", option, "http://www.corp.test/").check().stdout == "<h1>corp</h1>\n"


@both
def test_psql_transactions(through: Through, version: int) -> None:
    table = f"kept_{through.transport}_{version}"
    psql = ("psql", "-X", "-h", CORP[version], "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-At")
    script = f"""
        DROP TABLE IF EXISTS {table};
        CREATE TABLE {table} (id int, word text);
        BEGIN; INSERT INTO {table} VALUES (1, 'one'), (2, 'two'); COMMIT;
        BEGIN; INSERT INTO {table} VALUES (3, 'three'); ROLLBACK;
    """
    through.run(*psql, stdin=script).check()
    assert through.run(*psql, "-c", f"SELECT id, word FROM {table} ORDER BY id").check().stdout == "1|one\n2|two\n"


def test_psql_large_result(through: Through) -> None:
    query = "SELECT sum(n) FROM (SELECT n FROM generate_series(1, 10) n) x; SELECT repeat('x', 2000000)"
    output = through.run("psql", "-X", "-h", CORP[4], "-U", "postgres", "-At", "-c", query).check()
    assert output.stdout == "55\n" + "x" * 2_000_000 + "\n"


@both
def test_redis(through: Through, version: int) -> None:
    redis = ("redis-cli", "-h", CORP[version])
    value = f"{through.transport} {version}"
    assert through.run(*redis, "set", "key", value).check().stdout == "OK\n"
    assert through.run(*redis, "get", "key").check().stdout == f"{value}\n"


RECORDS = {
    "A": ("www.corp.test", ["10.99.0.2"]),
    "AAAA": ("www.corp.test", ["fd99::2"]),
    "CNAME": ("alias.corp.test", ["www.corp.test."]),
    "NS": ("corp.test", ["ns.corp.test."]),
    "TXT": ("corp.test", ['"v=netbridge one" "second string"']),
    "SOA": ("corp.test", ["ns.corp.test. hostmaster.corp.test. 2024010101 3600 600 86400 300"]),
    "PTR": ("2.0.99.10.in-addr.arpa", ["www.corp.test."]),
    "TYPE10": ("null.corp.test", ["\\# 4 01020304"]),
    "MX": ("corp.test", ["10 mail.corp.test."]),
    "SRV": ("_http._tcp.corp.test", ["0 5 80 www.corp.test."]),
}


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
@pytest.mark.parametrize("kind", list(RECORDS))
def test_dig(through: Through, kind: str, way: str) -> None:
    name, expected = RECORDS[kind]
    output = through.run("dig", "+short", "+tries=1", "+time=3", way, name, kind).check()
    assert output.stdout.splitlines() == expected


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_dig_any(through: Through, way: str) -> None:
    output = through.run("dig", "+noall", "+answer", "+tries=1", "+time=3", way, "www.corp.test", "ANY").check()
    kinds = {line.split()[3] for line in output.stdout.splitlines()}
    assert kinds & {"A", "AAAA"}, output.stdout


@pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
def test_dig_at_the_server_itself(through: Through, version: int) -> None:
    for way in ("+notcp", "+tcp"):
        output = through.run("dig", "+short", "+tries=1", "+time=3", way, f"@{CORP[version]}", "mail.corp.test").check()
        assert output.stdout == "10.99.0.2\n"


def test_dig_answer_too_big_for_udp(through: Through) -> None:
    output = through.run("dig", "+ignore", "+tries=1", "+time=3", "big.corp.test", "TXT").check()
    assert " tc" in output.stdout.partition(";; flags:")[2].partition(";")[0]
    output = through.run("dig", "+short", "+tries=1", "+time=3", "big.corp.test", "TXT").check()
    assert len(output.stdout.splitlines()) == BIG_TEXTS


def test_dig_reverse_v6(through: Through) -> None:
    assert through.run("dig", "+short", "+tries=1", "+time=3", "-x", CORP[6]).check().stdout == "www.corp.test.\n"


def test_unknown_name_is_nxdomain(through: Through) -> None:
    output = through.run("dig", "+tries=1", "+time=5", "nothing.corp.test").check()
    assert "status: NXDOMAIN" in output.stdout


def test_name_without_aaaa_is_no_error(through: Through) -> None:
    """An empty answer must not become NXDOMAIN: resolvers that ask A and AAAA at once believe the first no."""
    output = through.run("dig", "+tries=1", "+time=3", "v4only.corp.test", "AAAA").check()
    assert "status: NOERROR" in output.stdout
    assert "ANSWER: 0" in output.stdout


def test_getent(through: Through) -> None:
    assert through.run("getent", "ahostsv4", "www.corp.test").check().stdout.split()[0] == CORP[4]
    assert through.run("getent", "ahostsv6", "www.corp.test").check().stdout.split()[0] == CORP[6]
    assert through.run("getent", "hosts", "v4only.corp.test").check().stdout.split()[0] == CORP[4]


def test_public_names_resolve_as_before(through: Through) -> None:
    if through.transport in {"sandbox", CONTROL}:
        pytest.skip("there is no resolver of a cloud")
    assert through.run("getent", "hosts", "www.public.test").check().stdout.split()[0] == "203.0.113.80"


@both
def test_ping(through: Through, version: int) -> None:
    output = through.run("ping", f"-{version}", "-c", "3", "-i", "0.2", "-W", "2", CORP[version]).check()
    assert "3 received" in output.stdout


@both
def test_ping_large(through: Through, version: int) -> None:
    output = through.run("ping", f"-{version}", "-c", "1", "-s", "4000", "-W", "3", CORP[version]).check()
    assert "4008 bytes from" in output.stdout


def test_ping_dead_host_stays_silent(through: Through) -> None:
    output = through.run("ping", "-c", "1", "-W", "1", "10.99.0.77")
    assert output.code == 1
    assert "0 received" in output.stdout


def test_first_hop_is_the_bridge(through: Through) -> None:
    if through.transport == CONTROL:
        pytest.skip("corp is the laptop's neighbour")
    output = through.run("ping", "-c", "1", "-W", "2", "-t", "1", CORP[4])
    assert "From 198.18." in output.stdout
    assert "Time to live exceeded" in output.stdout


@both
@pytest.mark.parametrize("direction", ["up", "down"])
def test_iperf_tcp(through: Through, world: World, version: int, direction: str) -> None:
    options = ["-R"] if direction == "down" else []
    port = str(servers.iperf(world.corp))
    report = json.loads(
        through.run("iperf3", "-c", CORP[version], "-p", port, "-t", "1", "-J", *options).check().stdout
    )
    assert report["end"]["sum_received"]["bits_per_second"] > 50e6


@both
@pytest.mark.parametrize("direction", ["up", "down"])
def test_iperf_udp(through: Through, world: World, version: int, direction: str) -> None:
    options = ["-R"] if direction == "down" else []
    port = str(servers.iperf(world.corp))
    output = through.run(
        "iperf3", "-u", "-b", "20M", "-l", "1200", "-c", CORP[version], "-p", port, "-t", "1", "-J", *options
    ).check()
    summary = json.loads(output.stdout)["end"]["sum"]
    assert summary["packets"] > 1000
    assert summary["lost_percent"] < 5
