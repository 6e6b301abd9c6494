"""What is measured over each path, with the usual tools. A figure, or `Reason` with the sentence why there is none."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.world import servers
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.machine import Machine, Output, wait_until

SOCKPERF_PORT = 11111
NEW_NAMES = 100_000
"""Names that no cache knows; more than are asked within a measurement."""
KNOWN_NAMES = 500
"""Names that are asked over and over; many, since the same name asked twice at once is asked once."""


class Reason(Exception):
    """Why a figure is missing: shown in the table in its place."""


@dataclass(frozen=True)
class Place:
    """Where the measuring tools run: a machine, or the sandbox on it in which process `enter` is."""

    machine: Machine
    corp: Machine
    enter: int | None = None

    def run(self, *argv: str, timeout: float, failing: bool = False) -> Output:
        """Run a tool here; a failure is a Reason unless the caller reads it itself."""
        try:
            output = self.machine.run(*argv, timeout=timeout, enter=self.enter)
        except TimeoutError:
            raise Reason(f"{argv[0]} did not end within {timeout:g} s") from None
        if output.code and not failing:
            lines = (output.stderr.strip() or output.stdout.strip()).splitlines()
            raise Reason(f"{argv[0]}: {lines[-1].strip() if lines else f'exit {output.code}'}"[:160])
        return output


def first_number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise Reason("the tool printed no figure")
    return float(found.group(1))


def start_servers(corp: Machine) -> None:
    """The servers that only measurements need."""
    for number, options in enumerate(([], ["--tcp"])):
        corp.start("sockperf", "server", "-i", CORP[4], "-p", str(SOCKPERF_PORT + number), *options, log="sockperf.log")
    wait_until(lambda: corp.answers(CORP[4], SOCKPERF_PORT + 1), "sockperf")


def iperf(place: Place, seconds: float, *, reverse: bool) -> tuple[float, float]:
    """(Gbit/s, gigabytes moved). Up is from the codespace; `reverse` is down."""
    options = ["-R"] if reverse else []
    port = servers.iperf(place.corp)
    words = ["iperf3", "-c", CORP[4], "-p", str(port), "-t", f"{seconds:g}", "-J", "--connect-timeout", "3000"]
    output = place.run(*words, *options, timeout=seconds + 15, failing=True)
    report: dict[str, Any] = json.loads(output.stdout)
    if "error" in report or "sum_received" not in report["end"]:
        raise Reason(f"iperf3: {report.get('error', 'no result')}"[:160])
    received = report["end"]["sum_received"]
    if not received["bytes"]:
        raise Reason("iperf3: no bytes arrived")
    return received["bits_per_second"] / 1e9, received["bytes"] / 1e9


def http_keepalive(place: Place, seconds: float) -> float:
    """Requests a second, 32 connections that stay open."""
    output = place.run(
        "wrk", "-t1", "-c32", f"-d{max(1, round(seconds))}", f"http://{CORP[4]}:{HTTP_PORT}/small", timeout=seconds + 15
    )
    rate = first_number(r"Requests/sec:\s+([\d.]+)", output.stdout)
    if not rate:
        raise Reason("wrk: no request was answered")
    return rate


def http_new(place: Place, seconds: float) -> float:
    """Requests a second, a new connection for each, 8 at a time."""
    output = place.run(
        "ab",
        "-q",
        "-c",
        "8",
        "-t",
        str(max(1, round(seconds))),
        "-n",
        "10000000",
        f"http://{CORP[4]}:{HTTP_PORT}/small",
        timeout=seconds + 15,
    )
    return first_number(r"Requests per second:\s+([\d.]+)", output.stdout)


def _round_trip(place: Place, seconds: float, port: int, *options: str) -> float:
    output = place.run(
        "sockperf",
        "ping-pong",
        "-i",
        CORP[4],
        "-p",
        str(port),
        *options,
        "-t",
        str(max(1, round(seconds))),
        "--full-rtt",
        timeout=seconds + 10,
    )
    return first_number(r"Round trip is ([\d.]+) usec", output.stdout)


def round_trip_tcp(place: Place, seconds: float) -> float:
    """Microseconds from a 14-byte request to its answer on one connection."""
    return _round_trip(place, seconds, SOCKPERF_PORT + 1, "--tcp")


def round_trip_udp(place: Place, seconds: float) -> float:
    """The same by UDP."""
    return _round_trip(place, seconds, SOCKPERF_PORT)


def dns(place: Place, seconds: float, server: str) -> float:
    """Queries a second over UDP, at most 50 waiting."""
    queries = place.machine.folder / "queries"
    queries.write_text("www.corp.test A\nwww.corp.test AAAA\nmail.corp.test A\ncorp.test TXT\n")
    output = place.run(
        "dnsperf",
        "-s",
        server,
        "-d",
        str(queries),
        "-l",
        f"{max(1, round(seconds))}",
        "-q",
        "50",
        "-t",
        "1",
        timeout=seconds + 15,
    )
    completed = first_number(r"Queries completed:\s+(\d+)", output.stdout)
    lost = first_number(r"Queries lost:\s+(\d+)", output.stdout)
    failed = "NOERROR" not in output.stdout
    if not completed or failed:
        raise Reason(f"no query was answered ({lost:.0f} lost)")
    return first_number(r"Queries per second:\s+([\d.]+)", output.stdout)


def names(place: Place, seconds: float, server: str, *, new: bool, waiting: int) -> tuple[float, float]:
    """(queries a second, median milliseconds) for names of corp, asked the way programs ask, at most `waiting` waiting.

    `new`: each is asked once, so no cache knows it.
    """
    queries = place.machine.folder / "queries"
    if new:
        run = time.monotonic_ns()
        queries.write_text("".join(f"n{run}-{number}.many.corp.test A\n" for number in range(NEW_NAMES)))
    else:
        queries.write_text("".join(f"known{number}.many.corp.test A\n" for number in range(KNOWN_NAMES)))
    words = ["-s", server, "-d", str(queries), "-l", f"{max(1, round(seconds))}", "-q", str(waiting), "-t", "2", "-v"]
    output = place.run("dnsperf", *words, *(["-n", "1"] if new else []), timeout=seconds + 15)
    told = re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)$", output.stdout, re.MULTILINE)
    lost = first_number(r"Queries lost:\s+(\d+)", output.stdout)
    if lost > len(told) / 1000 or not told:
        raise Reason(f"dnsperf: {len(told)} queries were answered, {lost:.0f} lost")
    return first_number(r"Queries per second:\s+([\d.]+)", output.stdout), statistics.median(map(float, told)) * 1000


Load = Callable[[Place, float], float]
