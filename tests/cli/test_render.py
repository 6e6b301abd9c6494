"""Events, errors and states in words: one line each, and nothing of the target's that a terminal would act upon."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import events
from netbridge.bridge.errors import BridgeError, UsageError
from netbridge.bridge.options import Options
from netbridge.cli import render
from netbridge.cli.output import Output
from netbridge.cli.text import LINE_MAX, clean

EVIL = "evil\x1b]0;owned\x07\x1b[2J\nnetbridge: ready\r\u202e\u200b\x9b31m\udc80"
NETWORKS = tuple(events.Network(f"10.{number}.0.0/16", "by tun0") for number in range(20))
EXAMPLES: list[tuple[events.Event, str]] = [
    (events.Starting("reaching the target", "sandbox"), "reaching the target"),
    (events.Connected("t", EVIL, EVIL, EVIL, EVIL, EVIL, 1500, True, ("198.18.0.2/30",), 1.25), "198.18.0.2/30"),
    (events.Captured(NETWORKS), "and 8 more"),
    (events.Captured(()), "nothing"),
    (events.Skipped(NETWORKS[:1]), "not captured: 10.0.0.0/16 (by tun0)"),
    (
        events.HostRoute("10.0.3.7", "db.corp", "10.0.0.0/16", 300),
        "db.corp (10.0.3.7) in 10.0.0.0/16 is reached through the bridge, for 5 min 0 s and while in use",
    ),
    (events.HostRoute("10.8.0.5", "", "10.8.0.0/16", 120), "10.8.0.5, to which flows are open, in 10.8.0.0/16 is"),
    (events.HostRoute("10.0.3.7", EVIL, "10.0.0.0/16", 300, EVIL), "is not reached through the bridge: evil"),
    (events.Dns(True, "auto", "127.83.0.1", ("corp.test",)), "always corp.test"),
    (events.Dns(False, "off", "", ()), "not asked here"),
    (events.Dns(False, "auto", "", ()), "stays as it is"),
    (events.Ready("sandbox"), "ready"),
    (events.FlowDenied("tcp", "127.0.0.1", 80, "loopback"), "denied: tcp to 127.0.0.1 port 80: loopback"),
    (events.FlowDenied("icmp", "127.0.0.1", 0, "loopback"), "denied: icmp to 127.0.0.1: loopback"),
    (
        events.FlowDenied("tcp", "198.18.0.4", 81, "loopback", "198.18.0.2", 4711, "127.0.0.1", 10),
        "denied: tcp from 198.18.0.2 port 4711 to 198.18.0.4 (127.0.0.1) port 81: loopback (10 times now)",
    ),
    (events.FlowsDenied(977, 5.0, 1000), "denied: 977 more flows in the last 5.0 s, 1000 in all"),
    (
        events.HostAlias("host.netbridge.internal", ("198.18.0.4",), ("127.0.0.1:80",)),
        "host.netbridge.internal (198.18.0.4) is this machine's loopback, as far as opened: 127.0.0.1:80",
    ),
    (events.HostAlias("host.netbridge.internal", ("198.18.0.4",), ()), "no rule opens a port of it"),
    (events.SshAgent("/tmp/a.sock", ""), "can be used over there: export SSH_AUTH_SOCK=/tmp/a.sock"),
    (events.SshAgent("", EVIL), "the ssh-agent cannot be used over there: evil"),
    (events.SshAgent("", ""), "gave no reason"),
    (events.Metrics("http://127.0.0.1:9464/metrics", False), "metrics: http://127.0.0.1:9464/metrics"),
    (events.Metrics("http://10.1.2.3:80/metrics", True), "mind: whoever reaches that address can read them"),
    (events.Hint("mend it"), "hint: mend it"),
    (events.CommandStarted(("curl", "x")), "running curl x"),
    (events.CommandStarted(()), "a shell"),
    (events.CommandEnded(7), "status 7"),
    (events.Lost(EVIL), "the connection is lost: evil"),
    (events.Interrupted(EVIL, 600.0), "flows wait up to 10 min 0 s while it is made anew: evil"),
    (events.FlowsDenied(1, 5.0, 1000), "denied: 1 more flow in the last 5.0 s, 1000 in all"),
    (events.Reconnecting(1, 2.0, EVIL), "no connection yet (one try, the next in 2.0 s): evil"),
    (events.Reconnecting(3, 4.0, EVIL), "no connection yet (3 tries, the next in 4.0 s): evil"),
    (events.Resumed(2.5, 1, 17), "there again after 2.5 s; every flow goes on"),
    (events.Stopping("q was pressed"), "stopping: q was pressed"),
    (events.Stopped(True, 1.0, 1, 0, 0), "after 1.0 s: 1 flow, 0 B"),
    (events.Stopped(True, 3725.0, 2, 1500, 2_500_000), "1 h 2 min: 2 flows, 1.5 kB from there, 2.5 MB to there"),
    (events.Stopped(False, 1.0, 0, 0, 0), "did not confirm"),
]


def test_every_kind_of_event_has_an_example() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert {type(event) for event, _ in EXAMPLES} == kinds - {events.Event}


@pytest.mark.parametrize(("event", "said"), EXAMPLES)
def test_an_event_is_one_harmless_line_and_one_json_object(event: events.Event, said: str) -> None:
    line = render.line(event)
    assert said in line
    assert line == clean(line)
    assert line.isprintable()
    record = render.record(event)
    assert record.isascii()
    assert "\n" not in record
    assert json.loads(record)["event"] == render.kind(event)


def test_kinds_are_snake_case() -> None:
    assert render.kind(events.FlowDenied("tcp", "a", 1, "r")) == "flow_denied"
    assert render.kind(events.Dns(False, "off", "", ())) == "dns"


@pytest.mark.parametrize(("text", "shown"), [
    ("plain", "plain"),
    ("größe 日本", "größe 日本"),
    ("a\nb\tc\r", "a b c "),
    ("\x1b[31m", "\\x1b[31m"),
    ("\x9b", "\\x9b"),
    ("\u202eabc", "\\u202eabc"),
    ("\udc80", "\\udc80"),
    ("\x7f\0", "\\x7f\\x00"),
])
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_clean_is_bounded() -> None:
    assert len(clean("x" * 100_000)) == LINE_MAX + 1


def test_a_failure_has_its_parts_cleaned() -> None:
    shown = render.failure(BridgeError("What.", EVIL, "Do."), "text")
    assert shown.isprintable()
    assert shown.startswith("netbridge: What. evil")
    assert shown.endswith("Do.")


def test_a_failure_always_has_three_sentences() -> None:
    shown = json.loads(render.failure(BridgeError("What", "It said: hello"), "json"))
    assert (shown["what"], shown["why"]) == ("What.", "It said: hello.")
    assert shown["todo"].endswith(".")
    assert json.loads(render.failure(BridgeError("What."), "json"))["why"].endswith(".")


@pytest.mark.parametrize(("dns", "said"), [
    ({"on": False, "mode": "off"}, "not asked here (off)"),
    ({"on": False, "mode": "auto"}, "not asked here (resolv.conf is read-only)"),
    ({"on": True, "mode": "all", "nameservers": ["10.9.9.9"], "search": []}, "all asked here (10.9.9.9)"),
    (
        {"on": True, "mode": "auto", "nameservers": ["10.9.9.9"], "private": ["corp.test"], "search": ["corp.test"]},
        ("asked here (10.9.9.9) first below corp.test and for captured addresses, over there first for all others"
         "; short names try corp.test"),
    ),
    ({"on": True, "mode": "auto"}, "asked here first for captured addresses, over there first for all others"),
])
def test_a_state_tells_who_is_asked_for_which_name(dns: dict[str, Any], said: str) -> None:
    state = {"number": 0, "target": "t", "state": "running", "pid": 7, "uptime": 1.0, "dns": dns,
             "agent": {"dns_reason": "resolv.conf is read-only"}}  # fmt: skip
    assert f"  names: {said}" in render.state(state)


def test_a_network_that_overlaps_stands_on_one_line_of_a_state() -> None:
    inside, left_out = {"network": "172.17.0.0/16", "reason": "a"}, {"network": "10.0.0.1/32", "reason": "b"}
    state = {"number": 0, "target": "t", "state": "running", "pid": 7, "uptime": 1.0,
             "skipped": [inside, left_out], "overlapping": [{**inside, "reason": "c"}]}  # fmt: skip
    lines = render.state(state)
    assert "  not captured: 10.0.0.1/32 (b)" in lines
    assert "  overlapping (hosts by name only): 172.17.0.0/16 (c)" in lines


def test_a_state_is_told_in_lines() -> None:
    state = {
        "number": 0, "target": EVIL, "state": "running", "pid": 7, "uptime": 61.0,
        "captured": [{"network": "10.0.0.0/8", "reason": "by tun0"}], "skipped": [], "excluded": [],
        "dns": {"on": True, "mode": "auto"}, "memory": {"resident": 50_000_000},
        "counters": {"policy": {"denied": 12}},
        "limits": {
            "tcp-flows": {"limit": 100, "unit": "flows", "used": 91},
            "udp-flows": {"limit": 10, "unit": "flows", "used": 8},
            "icmp-idle": {"limit": 60.0, "unit": "seconds"},
        },
        "totals": {"tcp": 2, "udp": 1},
    }
    lines = render.state(state)
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    for part in ("running", "1 min 1 s", "10.0.0.0/8 (by tun0)", "3 open (2 tcp, 1 udp)", "50.0 MB"):
        assert part in text
    assert "denied: 12 flows\n" in text
    assert "nearly used up: tcp-flows (91 of 100)\n" in text
    assert render.state({"number": 3, "error": "Bridge 3 does not answer."}) == ["bridge 3: Bridge 3 does not answer."]


def output(tmp_path: Path, **options: object) -> Output:
    return Output(Options(target="t", log_file=tmp_path / "log", **options))  # type: ignore[arg-type]


def test_the_log_file_gets_events_and_records_privately(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sink = output(tmp_path)
    sink.event(events.Ready("t"))
    logging.getLogger("netbridge.test").warning("it says %s", EVIL)
    logging.getLogger("netbridge.test").debug("not told")
    sink.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(" netbridge: ready")
    assert "warning: netbridge.test: it says evil" in lines[1]
    assert stat.S_IMODE(os.stat(tmp_path / "log").st_mode) == 0o600
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_denials_fill_the_log_file_and_not_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sink = output(tmp_path)
    for times in range(1, 101):
        sink.event(events.FlowDenied("tcp", "10.0.0.1", 80, "why", "198.18.0.2", 5000 + times, "10.0.0.1", times))
    sink.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 100
    first, tenth, hundredth = capsys.readouterr().err.splitlines()
    assert first == "netbridge: denied: tcp from 198.18.0.2 port 5001 to 10.0.0.1 port 80: why"
    assert tenth.endswith("port 5010 to 10.0.0.1 port 80: why (10 times now)")
    assert hundredth.endswith("(100 times now)")


def test_json_lines_are_json_whatever_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sink = output(tmp_path, log_format="json", trace_level="trace")
    sink.event(events.Lost(EVIL))
    logging.getLogger("netbridge.test").debug("%s", EVIL)
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        logging.getLogger("netbridge.test").exception("broken")
        assert sink.failure(error) == 1
    sink.close()
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {record["event"] for record in records} == {"lost", "log", "traceback", "failed"}


@pytest.mark.parametrize(("level", "told"), [
    ("none", 0), ("error", 1), ("warn", 2), ("info", 3), ("debug", 4), ("trace", 5),
])
def test_levels(tmp_path: Path, level: str, told: int, capsys: pytest.CaptureFixture[str]) -> None:
    sink = output(tmp_path, trace_level=level)
    for number in (5, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("netbridge.test").log(number, "said")
    logging.getLogger("pyroute2").debug("chatter")
    assert len(capsys.readouterr().err.splitlines()) == told + (level == "trace")
    sink.close()


def test_an_unwritable_log_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        Output(Options(target="t", log_file=tmp_path))


def test_what_a_service_manager_hears() -> None:
    """One line a stage, whatever the target called itself; what is no stage is not told."""
    assert render.notification(events.Ready("t")) == {"READY": "1", "STATUS": "ready"}
    assert render.notification(events.Stopping("q\nREADY=1")) == {"STOPPING": "1", "STATUS": "stopping: q READY=1"}
    for event in (
        events.Starting("reaching the target", "t"), events.Lost(EVIL), events.Interrupted(EVIL, 600.0),
        events.Reconnecting(2, 1.0, EVIL), events.Resumed(1.0, 2, 3),
    ):
        told = render.notification(event)
        assert list(told) == ["STATUS"]
        assert told["STATUS"].isprintable()
    assert render.notification(events.Hint("h")) == {}


def test_a_state_shows_overlaps_and_the_hosts_that_are_reached_in_them() -> None:
    host = {"address": "10.0.3.7", "names": ["db.corp"], "network": "10.0.0.0/16", "seconds": 61.0}
    lines = render.state({
        "number": 0, "target": "t", "state": "running", "pid": 1, "uptime": 1.0,
        "overlapping": [{"network": "10.0.0.0/16", "reason": "it is the target's own, too"}],
        "host_routes": [
            {**host, "in_use": True, "refused": ""}, {**host, "in_use": False, "refused": EVIL},
            {**host, "names": [], "in_use": False, "refused": ""},
        ],
    })  # fmt: skip
    assert "  overlapping (hosts by name only): 10.0.0.0/16 (it is the target's own, too)" in lines
    assert "    10.0.3.7 in 10.0.0.0/16 (db.corp), 1 min 1 s left, in use" in lines
    assert "    10.0.3.7 in 10.0.0.0/16 (open flows), 1 min 1 s left" in lines
    assert any("refused: evil" in line for line in lines)
    assert all(line.isprintable() for line in lines)
