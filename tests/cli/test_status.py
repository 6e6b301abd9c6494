"""`netbridge status`: as a table, flow by flow, anew every second, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.cli import tables
from tests.cli.program import ADDRESS, Machine

EVIL = "evil\x1b[2J\n"
FLOW = {
    "protocol": "tcp", "source": "198.18.0.2:5", "destination": "10.0.0.1:80", "state": "open",
    "bytes_up": 10, "bytes_down": 2000, "packets_up": 0, "packets_down": 0, "age": 1.5, "idle": 0.1,
}
BRIDGE: dict[str, Any] = {
    "number": 0, "target": "ssh://me@devbox", "state": "running", "uptime": 61.0,
    "connection": {"up": True, "rtt": 0.012}, "totals": {"tcp": 3, "udp": 1},
    "counters": {"tcp": {"bytes_in": 10, "bytes_out": 2_000_000}},
    "flows": [FLOW, {**FLOW, "protocol": "udp", "destination": "127.0.0.1:9", "final": "10.0.0.9:9", "state": EVIL}],
}  # fmt: skip


def test_a_table_of_bridges() -> None:
    silent = {"number": 12, "error": "Bridge 12 does not answer."}
    long = {**BRIDGE, "number": 3, "target": "exec:" + "x" * 90 + EVIL, "connection": {}, "state": "starting"}
    lines = tables.bridges([BRIDGE, silent, long])
    assert lines[0].split() == ["TARGET", "STATE", "UPTIME", "ROUND", "TRIP", "FLOWS", "FROM", "TO"]
    assert lines[1].split() == [
        "0", "ssh://me@devbox", "running", "1", "min", "1", "s", "12.0", "ms", "4", "10", "B", "2.0", "MB",
    ]
    assert lines[2].split() == ["12", "?", "no", "answer"]
    assert "exec:xxx" in lines[3]
    assert "…" in lines[3]
    columns = [lines[0].index(head) for head in ("TARGET", "STATE", "UPTIME")]
    assert all(line[column - 1] == " " != line[column] for line in (lines[1], lines[3]) for column in columns)
    assert all(line.isprintable() for line in lines)
    assert tables.bridges([BRIDGE], {0: (1500.0, 0.0)})[1].endswith("1.5 kB/s  0 B/s")


def test_a_table_of_flows() -> None:
    lines = tables.flows(BRIDGE)
    assert lines[1].split() == [
        "tcp", "198.18.0.2:5", "10.0.0.1:80", "open", "10", "B", "2.0", "kB", "1.5", "s", "0.1", "s",
    ]
    assert "127.0.0.1:9 (10.0.0.9:9)" in lines[2]
    assert lines[3] == "and 2 more"
    assert all(line.isprintable() for line in lines)
    assert tables.flows({"flows": [], "totals": {}}) == []


@pytest.fixture(name="machine")
def own_machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        assert machine.pids() == [], "a process was left behind"


@pytest.mark.net
def test_a_running_bridge_as_a_person_and_a_pipe_see_it(machine: Machine) -> None:
    with machine.running("up", "sandbox", "--", "ping", "-i", "0.3", ADDRESS) as bridge:
        bridge.until(b"time=")
        shown = machine.netbridge("status").stdout
        head, row, *rest = shown.splitlines()
        assert head.split()[:2] == ["TARGET", "STATE"]
        assert row.split()[:3] == ["0", "sandbox", "running"]
        assert "  flows: 1 open (1 icmp)" in rest
        assert "198.18.0.2" not in shown
        each = machine.netbridge("status", "0", "--flows").stdout
        assert re.search(r"icmp +198[.]18[.]0[.]2:\d+ +10[.]88[.]0[.]1:", each)
        nobody = machine.netbridge("status", "ssh://nobody")
        assert (nobody.returncode, nobody.stdout) == (3, "")
        (brief,) = json.loads(machine.netbridge("status", "sandbox", "--json").stdout)["bridges"]
        assert len(brief["flows"]) == 1

        watched = machine.words("-m", "netbridge", "status", "--watch")
        for words, wanted in ((watched, b"running"), ([*watched, "--json"], b'"running"')):
            with subprocess.Popen(words, stdout=subprocess.PIPE, env=machine.environment) as piped:
                assert piped.stdout
                seen = b""
                while seen.count(wanted) < 2:
                    seen += os.read(piped.stdout.fileno(), 1 << 16)
                piped.send_signal(signal.SIGINT)
                seen += piped.stdout.read()
                assert piped.wait(10) == 0
                assert b"\x1b" not in seen
        assert [json.loads(line)["bridges"][0]["target"] for line in seen.splitlines()][:2] == ["sandbox", "sandbox"]

        with subprocess.Popen(
            watched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=machine.environment,
        ) as piped:
            assert piped.stdout
            assert piped.stderr
            os.read(piped.stdout.fileno(), 1)
            piped.stdout.close()  # as `head` does
            assert (piped.wait(10), piped.stderr.read()) == (0, b"")

        for number in (signal.SIGINT, signal.SIGTERM):
            ours, theirs = pty.openpty()
            with subprocess.Popen(
                watched, stdout=theirs, stdin=theirs, stderr=theirs, env={**machine.environment, "TERM": "xterm"},
            ) as program:
                seen = b""
                while seen.count(b"sandbox") < 4:  # twice in each picture
                    seen += os.read(ours, 1 << 16)
                program.send_signal(number)
                assert program.wait(10) == 0
                os.close(theirs)
                seen += os.read(ours, 1 << 16)
                os.close(ours)
            assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
            assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
            assert b"/s" in seen
        assert machine.netbridge("down", "sandbox").returncode == 0
        bridge.ended()
    done = machine.netbridge("status")
    assert (done.stdout, done.stderr) == ("", "No bridge is running.\n")
