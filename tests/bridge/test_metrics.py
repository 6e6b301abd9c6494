"""A bridge's numbers as a real Prometheus client reads them, and what promtool thinks of their names."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as parse

from netbridge.bridge import capturing, events, values
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.metrics import server
from netbridge.bridge.metrics.exposition import OPENMETRICS, PROMETHEUS, Family, counter, text
from netbridge.bridge.metrics.families import families
from netbridge.bridge.metrics.server import MOST
from netbridge.bridge.session import Session
from tests.bridge.fake_target import FakeTarget
from tests.bridge.life import Life, QuietNetworks

parse_openmetrics: Callable[[str], Iterator[Any]] = openmetrics_families
Look = Callable[[Life, str], Awaitable[None]]


@pytest.fixture(name="scrape")
def scraped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Look], Awaitable[None]]:
    """Runs a bridge that serves its metrics, and something on it."""
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)

    async def during(look: Look) -> None:
        life = Life(FakeTarget(), metrics="127.0.0.1:0")
        life.session.options = dataclasses.replace(life.session.options, target="exec:fake hunter2")

        async def act(life: Life) -> None:
            await look(life, life.the(events.Metrics).url)

        assert await life.during(act) == 0

    return during


def fetch(url: str, **headers: str) -> tuple[str, str]:
    """The text and its type."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def samples(families: Any) -> dict[str, float]:
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


async def test_what_a_real_client_reads(scrape: Any) -> None:
    async def look(life: Life, url: str) -> None:
        session = life.session
        assert session.addresses
        async with life.target.kernel() as kernel:
            for _ in range(3):
                await kernel.ping(session.addresses.gateways[0], timeout=5)
        plain, kind = await asyncio.to_thread(fetch, url)
        assert kind == PROMETHEUS
        families = {family.name: family for family in parse(plain)}
        numbers = samples(families.values())
        assert numbers["netbridge_icmp_echo_requests_total"] == 3
        assert numbers["netbridge_connected"] == 1
        assert numbers["netbridge_link_in_bytes_total"] >= 3 * 28
        assert numbers["process_open_fds"] > 3
        assert numbers["process_resident_memory_bytes"] > 1_000_000
        state = {sample.labels["state"]: sample.value for sample in families["netbridge_state"].samples}
        assert state == {"starting": 0, "running": 1, "reconnecting": 0, "stopping": 0, "stopped": 0}
        assert all(family.documentation and family.type in {"counter", "gauge"} for family in families.values())
        limits = {sample.labels["limit"]: sample.labels["unit"] for sample in families["netbridge_limit"].samples}
        assert limits["tcp-flows"] == "flows"
        (about,) = families["netbridge_bridge_info"].samples
        assert about.labels["target"] == "exec:"
        assert "hunter2" not in plain

        # Every counter of `netbridge status --json` is there, and nothing is there twice.
        names = [sample.name for family in families.values() for sample in family.samples if not sample.labels]
        assert len(names) == len(set(names))
        for room, counters in session.status()["counters"].items():
            for name in counters:
                name = f"{name[6:]}_bytes" if name.startswith("bytes_") else name
                found = {f"netbridge_{room}_{name}{ending}" for ending in ("", "_total", "_bytes")} & numbers.keys()
                assert len(found) == 1, (room, name)

        openmetrics, kind = await asyncio.to_thread(fetch, url, Accept="application/openmetrics-text;version=1.0.0")
        assert kind == OPENMETRICS
        assert {*samples(parse_openmetrics(openmetrics))} == {*numbers}

    await scrape(look)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: scripts/system-packages test")
async def test_promtool_finds_no_fault_with_the_names(scrape: Any) -> None:
    async def look(_: Life, url: str) -> None:
        plain, _kind = await asyncio.to_thread(fetch, url)
        done = await asyncio.to_thread(
            subprocess.run, ["promtool", "check", "metrics"], input=plain, text=True, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    await scrape(look)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 200), ("GET", "/metrics?x=y", 200), ("HEAD", "/metrics", 200), ("GET", "/other", 404),
    ("POST", "/metrics", 405),
])
async def test_what_else_is_asked(method: str, path: str, status: int, scrape: Any) -> None:
    async def look(_: Life, url: str) -> None:
        request = urllib.request.Request(url.removesuffix("/metrics") + path, method=method)
        try:
            answer = await asyncio.to_thread(urllib.request.urlopen, request, timeout=10)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            assert answer.status == status
            assert (answer.read() == b"") == (method == "HEAD")

    await scrape(look)


@pytest.mark.parametrize("sent", [b"\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 20_000, b"GET / HTTP/1.1\r\n" * 2000, b"GET"])
async def test_nonsense_ends_its_connection_and_nothing_else(sent: bytes, scrape: Any) -> None:
    async def look(_: Life, url: str) -> None:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        try:
            async with asyncio.timeout(10):
                assert b"200 OK" not in await reader.read()
        except ConnectionError:
            pass
        writer.close()
        assert "netbridge_uptime_seconds" in (await asyncio.to_thread(fetch, url))[0]

    await scrape(look)


async def test_those_who_only_connect_keep_nobody_out(scrape: Any) -> None:
    async def look(_life: Life, url: str) -> None:
        host, port = url.split("/")[2].split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(3 * MOST)]
        assert "netbridge_uptime_seconds" in (await asyncio.to_thread(fetch, url))[0]
        for _, writer in silent:
            writer.close()

    await scrape(look)


async def test_numbers_asked_for_again_and_again_are_not_made_each_time(
    scrape: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[None] = []

    def slowly(session: Session) -> Iterator[Family]:
        made.append(None)
        time.sleep(0.02)
        return families(session)

    monkeypatch.setattr(server, "families", slowly)

    async def look(_life: Life, url: str) -> None:
        for _ in range(10):
            await asyncio.to_thread(fetch, url)
        assert len(made) < 5

    await scrape(look)


async def test_a_target_that_is_no_utf8_is_a_label(scrape: Any) -> None:
    async def look(life: Life, url: str) -> None:
        life.session.options = dataclasses.replace(life.session.options, target="ssh://caf\udce9")
        assert r"caf\udce9" in (await asyncio.to_thread(fetch, url))[0]

    await scrape(look)


async def test_numbers_are_there_before_the_target_is_and_an_address_in_use_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(capturing, "local_networks", QuietNetworks)
    life = Life(FakeTarget(), metrics="[::1]:0")
    fetched: list[str] = []

    def reading() -> None:
        url = life.the(events.Metrics).url
        assert url.startswith("http://[::1]:")

        async def read() -> None:
            fetched.append((await asyncio.to_thread(fetch, url))[0])
            second = Life(FakeTarget(), metrics=url.removeprefix("http://").removesuffix("/metrics"))
            with pytest.raises(BridgeError, match="cannot be served"):
                await second.session.run()
            life.session.stop("the test is over")

        tasks.append(asyncio.get_running_loop().create_task(read()))

    tasks: list[asyncio.Task[None]] = []
    life.when[events.Metrics] = reading
    async with asyncio.timeout(20):
        await life.session.run()
        await tasks[0]
    assert "netbridge_uptime_seconds" in fetched[0]


@pytest.mark.parametrize(("given", "place"), [
    ("9464", "127.0.0.1:9464"), (9464, "127.0.0.1:9464"), ("localhost:1", "127.0.0.1:1"), ("[::1]:9", "[::1]:9"),
    ("0.0.0.0:80", "0.0.0.0:80"), ("[FE80::0:1]:80", "[fe80::1]:80"),
])
def test_places(given: object, place: str) -> None:
    assert values.listening(given) == place


@pytest.mark.parametrize("given", ["", ":9464", "::1:9464", "host:9464", "127.0.0.1", "127.0.0.1:65536", True, "[::1]"])
def test_no_places(given: object) -> None:
    with pytest.raises(ValueError, match="ADDRESS"):
        values.listening(given)


def test_texts_are_escaped() -> None:
    families = [counter("a_b", 'A "line"\nand \\ more.', 1.5, label='x"y\\z\n')]
    for openmetrics, read in ((False, parse), (True, parse_openmetrics)):
        (family,) = read(text(families, openmetrics=openmetrics))
        assert family.documentation == 'A "line"\nand \\ more.'
        assert family.samples[0].labels == {"label": 'x"y\\z\n'}
        assert family.samples[0].value == 1.5
    assert dataclasses.asdict(Family("a", "gauge", "B."))["samples"] == []
