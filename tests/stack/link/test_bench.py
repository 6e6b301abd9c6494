"""The measurement of links runs, and gives a figure for each way and for the carrier alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[3] / "bench/links.py"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, BENCH, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows() -> None:
    memory, unix = json.loads(run("--only", "memory,unix", "--seconds", "0.2", "--json"))
    assert memory["up"] > 0 < memory["down"]
    assert "bare_up" not in memory
    assert min(unix[key] for key in ("up", "down", "bare_up", "bare_down")) > 0
    assert unix["about"] == "MTU 1500, offload"


def test_the_table() -> None:
    first, row = run("--only", "tcp", "--seconds", "0.1").splitlines()
    assert first.split()[:3] == ["link", "up", "Mbit/s"]
    assert row.split()[0] == "tcp"
