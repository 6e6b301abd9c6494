"""Measure netbridge and its peers side by side: `python bench/run.py [--quick] [--seconds N] [--only NAME,NAME]`.

Needs root (it builds network namespaces) and the peers' Debian packages; whatever cannot be measured shows its reason.
All traffic stays inside namespaces made for it, but for the library's links, which stand on loopback (links.py). Prints
its tables and writes bench/results/<time>.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
sys.path.insert(1, str(ROOT / "src"))

from bench import limit, links, loads, lossy, paths, report, segment_cost, ways
from bench.cost import CpuMeter

from tests.world import World, missing
from tests.world.addresses import CORP

PATHS: list[type[paths.Way]] = [
    ways.OverOpenssh,
    ways.OverAsyncssh,
    ways.InSandbox,
    paths.Sshuttle,
    paths.SshTunnel,
    paths.Slirp,
    paths.Pasta,
    paths.Kernel,
]
LIMIT = "raw-cat"
TCP = "tcp"
"""Our TCP by itself: lossy lines, and what a segment costs."""
LINKS = "links"
"""The library's links, each beside its carrier alone."""


def attempt(row: dict[str, Any], key: str, measure: Callable[[], float]) -> None:
    """Put a figure or the reason for its absence into `row`."""
    try:
        row[key] = round(measure(), 4)
    except loads.Reason as reason:
        row[key] = {"reason": str(reason)}
    except Exception as error:
        row[key] = {"reason": f"{type(error).__name__}: {error}"[:200]}


def bulk(row: dict[str, Any], meter: CpuMeter, run: Callable[[bool], tuple[float, float]]) -> None:
    """Both directions, and the processor time a gigabyte of each cost."""
    for key, down in (("up", False), ("down", True)):

        def measure(down: bool = down, key: str = key) -> float:
            before = meter.seconds() if meter.works else 0.0
            rate, gigabytes = run(down)
            if meter.works:
                row[f"cpu_{key}"] = round((meter.seconds() - before) / gigabytes, 3)
            return rate

        attempt(row, key, measure)
        if not meter.works:
            row[f"cpu_{key}"] = {"reason": "no writable cpuacct cgroup"}
        else:
            row.setdefault(f"cpu_{key}", {"reason": "nothing was moved"})


def measure_path(path: paths.Way, meter: CpuMeter, seconds: float) -> dict[str, Any]:
    row: dict[str, Any] = {"about": path.about}
    try:
        place = path.up()
    except loads.Reason as reason:
        row["failed"] = str(reason)
        return row
    except Exception as error:
        row["failed"] = f"{type(error).__name__}: {error}"[:300]
        return row
    bulk(row, meter, lambda down: loads.iperf(place, seconds, reverse=down))
    for key, load in (
        ("http_keepalive", loads.http_keepalive),
        ("http_new", loads.http_new),
        ("rtt_tcp", loads.round_trip_tcp),
    ):
        attempt(row, key, lambda load=load: load(place, seconds))  # type: ignore[misc]
    if path.udp:
        row["rtt_udp"] = {"reason": path.udp}
    else:
        attempt(row, "rtt_udp", lambda: loads.round_trip_udp(place, seconds))
    if path.udp and not path.resolver:
        row["dns"] = {"reason": path.udp}
    else:
        attempt(row, "dns", lambda: loads.dns(place, seconds, path.resolver or CORP[4]))
    server = path.names or path.resolver or CORP[4]
    for key, new, waiting, which in (("names", False, 50, 0), ("names_new", True, 50, 0), ("names_ms", False, 1, 1)):
        if path.udp and not path.resolver:
            row[key] = {"reason": path.udp}
        else:
            ask = lambda new=new, waiting=waiting, which=which: (
                loads.names(place, seconds, server, new=new, waiting=waiting)[which]
            )
            attempt(row, key, ask)
    attempt(row, "memory", path.memory)
    if path.name == "kernel":
        row["memory"] = {"reason": "no process"}
    return row


def measure_paths(rows: dict[str, list[dict[str, Any]]], chosen: list[str], rounds: int, seconds: float) -> None:
    """Each path of the four machines that was chosen, a row for each round."""
    meter = CpuMeter()
    try:
        with World() as world:
            loads.start_servers(world.corp)
            world.widen_ports()
            for number in range(rounds):
                print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                if LIMIT in chosen:
                    row: dict[str, Any] = {"about": "raw cat through ssh (the limit)"}
                    bulk(row, meter, lambda down: limit.raw_cat(world, seconds, up=not down))
                    rows.setdefault(LIMIT, []).append(row)
                for kind in PATHS:
                    if kind.name in chosen:
                        print(f"measuring {kind.name} …", file=sys.stderr, flush=True)
                        path = kind(world)
                        try:
                            rows.setdefault(kind.name, []).append(measure_path(path, meter, seconds))
                        finally:
                            path.down()
    finally:
        meter.close()


def measure_tcp(*, quick: bool) -> dict[str, Any]:
    """Our TCP by itself; three minutes, of which the short form leaves the long round trips out."""
    print("measuring segments …", file=sys.stderr, flush=True)
    cost = segment_cost.measure(rounds=1 if quick else segment_cost.ROUNDS)
    table = lossy.measure(round_trips=[0.001]) if quick else lossy.measure()
    return {"segment": cost, "lossy": table}


def merge(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several: the median of the figures, a reason only where no round has a figure."""
    merged: dict[str, Any] = {}
    for row in rounds:
        for key, value in row.items():
            if key == "failed" and any("failed" not in other for other in rounds):
                continue
            merged.setdefault(key, value)
    for key in merged:
        figures = [row[key] for row in rounds if isinstance(row.get(key), (int, float))]
        if figures:
            merged[key] = max(figures) if key == "memory" else statistics.median(figures)
    return merged


def machine_facts() -> dict[str, Any]:
    def first_line(*argv: str) -> str:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        except OSError:
            return "not installed"
        return ((done.stdout or done.stderr).strip().splitlines() or ["?"])[0]

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "cpu": model,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "commit": first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "openssh": first_line("ssh", "-V"),
        "iperf3": first_line("iperf3", "--version"),
        "sshuttle": first_line("sshuttle", "--version"),
        "slirp4netns": first_line("slirp4netns", "--version"),
        "cipher": paths.CIPHER,
    }


def main() -> int:
    names = [path.name for path in PATHS] + [LIMIT, TCP, LINKS]
    parser = argparse.ArgumentParser(description="Measure netbridge and its peers side by side.")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=1, help="measure everything so often, show medians (default 1)")
    parser.add_argument("--quick", action="store_true", help="one round of one second each")
    parser.add_argument("--json", type=Path, help="where to write (default bench/results/<time>.json)")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name] or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such path: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if reason := missing():
        print(f"bench: cannot measure here: {reason}", file=sys.stderr)
        return 1
    seconds = 1.0 if arguments.quick else arguments.seconds
    rounds = 1 if arguments.quick else max(1, arguments.rounds)
    facts = machine_facts()
    if facts["load"] > 0.5:
        print(f"bench: this machine is not idle (load {facts['load']:.1f}); figures will be low", file=sys.stderr)
    rows: dict[str, list[dict[str, Any]]] = {}
    tcp = measure_tcp(quick=arguments.quick) if TCP in chosen else {}
    beside = links.measured(links.NAMES, seconds) if LINKS in chosen else []
    if set(chosen) - {TCP, LINKS}:
        measure_paths(rows, chosen, rounds, seconds)
    merged = {name: merge(found) for name, found in rows.items()}
    result = {
        "machine": facts,
        "seconds": seconds,
        "rounds": rows,
        "paths": merged,
        "requirements": report.requirements(merged, rows),
        **tcp,
        "links": beside,
    }
    if tcp:
        result["requirements"] += lossy.requirements(tcp["lossy"])
    if rows:
        print(report.text(result))
    if tcp:
        print(f"\n{segment_cost.text(tcp['segment'])}\n\n{lossy.text(tcp['lossy'])}\n")
    if beside:
        print(f"\n{links.text(beside)}\n")
    report.write(result, arguments.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
