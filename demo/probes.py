"""What an application in the codespace does: HTTP, a database transaction, DNS, ping, throughput.

Runs inside the codespace by its own (standard library only), once without the bridge and once through it:
``probes.py fail`` expects every probe to fail, ``probes.py work`` expects every one to work and measures throughput.
One line a probe on stdout, starting with ``ok`` or ``FAIL``; the exit status says whether all went as expected.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass

WEB, DATABASE, RESOLVER, IPERF = "10.77.1.80", "10.77.1.54", "10.77.1.53", "10.77.1.20"
WEB6 = "fd77:1::80"
SQL = (
    "BEGIN; CREATE TEMP TABLE t AS SELECT generate_series(1, 1000) AS n; "
    "SELECT 'sum=' || sum(n) FROM t; COMMIT;"
)
CONNECTION = f"host={DATABASE} user=demo dbname=postgres connect_timeout=2 sslmode=disable"


@dataclass(frozen=True)
class Probe:
    """One thing to try."""

    name: str
    argv: tuple[str, ...]
    proof: str
    """A regular expression; what it finds in the output proves that the right server answered."""


CURL = ("curl", "--silent", "--show-error", "--noproxy", "*", "--connect-timeout", "2", "--max-time", "5")
DIG = ("dig", "+time=1", "+tries=1", "+noall", "+answer")
PROBES = (
    Probe("HTTP by address", (*CURL, f"http://{WEB}/"), r"hello from [\w.]+"),
    Probe("HTTP by name", (*CURL, "http://intranet.corp.internal/"), r"hello from [\w.]+"),
    Probe("HTTP over IPv6", (*CURL, f"http://[{WEB6}]/"), r"hello from [\w.]+"),
    Probe("SQL transaction", ("psql", "-X", "-A", "-t", "-q", "-d", CONNECTION, "-c", SQL), r"sum=500500"),
    Probe("DNS over UDP", (*DIG, f"@{RESOLVER}", "db.corp.internal", "A"), r"IN\s+A\s+10\.77\.1\.54"),
    Probe("DNS over TCP", (*DIG, "+tcp", f"@{RESOLVER}", "_sql._tcp.corp.internal", "SRV"), r"IN\s+SRV\s+.*5432.*"),
    Probe("DNS by resolv.conf", (*DIG, "db.corp.internal", "AAAA"), r"IN\s+AAAA\s+fd77:1::54"),
    Probe("ping", ("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", WEB), r"2 received.*"),
)


def attempt(probe: Probe) -> tuple[bool, str, float]:
    """Whether the right server answered, what was seen of it, and the seconds it took."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            probe.argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=8,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, "no answer", time.monotonic() - begun
    except FileNotFoundError:
        return False, f"the program {probe.argv[0]} is missing", 0.0
    took = time.monotonic() - begun
    found = re.search(probe.proof, done.stdout)
    if done.returncode == 0 and found is not None:
        return True, " ".join(found[0].split()), took
    said = [row.strip() for row in (done.stderr + done.stdout).splitlines() if row.strip()]
    return False, said[0][:100] if said else "no answer", took


def try_all(*, expected: bool) -> bool:
    """Run every probe; True when each one went as expected."""
    as_expected = True
    for probe in PROBES:
        worked, saw, took = attempt(probe)
        as_expected &= worked is expected
        word = "works" if worked else "fails"
        print(f"{'ok  ' if worked is expected else 'FAIL'} {probe.name:<19} {word} ({took:.2f} s): {saw}", flush=True)
    return as_expected


def throughput(name: str, *flags: str) -> bool:
    """Four seconds of iperf3 in one direction."""
    print(f"...  {name}", flush=True)
    done = subprocess.run(
        ["iperf3", "--client", IPERF, "--time", "4", "--omit", "1", "--json", "--connect-timeout", "3000", *flags],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False,
    )
    try:
        bits = float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])
    except (ValueError, KeyError):
        print(f"FAIL {name}: {done.stdout[-200:]}", flush=True)
        return False
    print(f"ok   {name:<19} {bits / 1e9:.2f} Gbit/s", flush=True)
    return bits > 0


def main(mode: str) -> int:
    """0 when everything went as `mode` expects."""
    if mode == "fail":
        return 0 if try_all(expected=False) else 1
    worked = try_all(expected=True)
    up = throughput("iperf3 to corp")
    down = throughput("iperf3 from corp", "--reverse")
    return 0 if worked and up and down else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
