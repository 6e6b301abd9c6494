"""The real program with a real sandbox: what a person sees, each way it ends, and what is left behind (nothing)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import ADDRESS, Machine, Program, wait_until

pytestmark = pytest.mark.net


@pytest.fixture(name="machine")
def own_machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        assert machine.pids() == [], "a process was left behind"


@pytest.fixture(name="place")
def exec_target(tmp_path: Path) -> str:
    """A target that is bridged without COMMAND: a shell in namespaces of its own, with a resolv.conf of its own."""
    script = tmp_path / "place.sh"
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    script.write_text(f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec sh\n")
    return f"exec:unshare --net --mount --propagation private sh {script}"


def alive(processes: list[tuple[int, bytes]]) -> bool:
    """Whether one of these still runs (a zombie does not)."""
    for pid, words in processes:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes() == words != b"":
                return True
        except OSError:
            continue
    return False


# --- COMMAND ----------------------------------------------------------------------------------------------------------


def test_a_command_in_the_sandbox_reaches_what_only_this_machine_reaches(machine: Machine) -> None:
    with machine.web_server() as url:
        done = machine.netbridge("up", "sandbox", "--", "curl", "-sS", "-m", "5", url)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert all(line.startswith("netbridge: ") for line in done.stderr.splitlines()), done.stderr
    for said in ("connected to", "captured: 10.88.0.0/24 (connected to corp0)", "ready", "stopped after"):
        assert said in done.stderr


@pytest.mark.parametrize(("command", "status"), [
    (["sh", "-c", "exit 42"], 42),
    (["sh", "-c", "kill -9 $$"], 137),
    (["no-such-program-at-all"], 127),
    (["curl", "-sS", "-m", "3", f"http://{ADDRESS}:1/"], 7),
])
def test_the_exit_code_is_that_of_the_command(machine: Machine, command: list[str], status: int) -> None:
    done = machine.netbridge("up", "sandbox", "--", *command)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


def test_standard_input_and_output_are_the_commands(machine: Machine) -> None:
    done = subprocess.run(
        machine.words("-m", "netbridge", "up", "sandbox", "--", "cat"), env=machine.environment, cwd=machine.folder,
        input="q\nthrough\n", text=True, capture_output=True, timeout=30, check=True,
    )
    assert done.stdout == "q\nthrough\n"


def test_without_command_the_sandbox_has_a_shell(machine: Machine) -> None:
    done = subprocess.run(
        machine.words("-m", "netbridge", "up", "sandbox"), env={**machine.environment, "SHELL": "/bin/sh"},
        cwd=machine.folder, input="ip -br address show nb0; exit 5\n", text=True, capture_output=True, timeout=30,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "198.18.0.2/30" in done.stdout


def test_json_events_are_json_and_a_pcap_is_written(machine: Machine) -> None:
    with machine.web_server() as url:
        done = machine.netbridge(
            "up", "sandbox", "--log-format", "json", "--pcap", "packets.pcap", "--log-file", "log", "--mtu", "1400",
            "--", "curl", "-sS", url,
        )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[:4] == ["starting", "starting", "starting", "connected"]
    assert kinds[-4:] == ["command_started", "command_ended", "stopping", "stopped"]
    assert events[3]["mtu"] == 1400
    took = dict(events[3]["stages"])
    assert {"reaching the target", "starting the agent", "TUN", "routes", "names"} <= took.keys()
    assert 0 < took["starting the agent"] < events[3]["seconds"]
    assert events[-1]["clean"]
    assert (machine.folder / "log").read_text().splitlines() == done.stderr.splitlines()
    assert b"GET / HTTP" in (machine.folder / "packets.pcap").read_bytes()
    assert (machine.folder / "packets.pcap").stat().st_mode & 0o777 == 0o600


def test_settings_come_from_the_environment_and_the_file(machine: Machine) -> None:
    (machine.folder / "config" / "netbridge").mkdir(parents=True)
    (machine.folder / "config" / "netbridge" / "config.toml").write_text('mtu = 1404\nlog-format = "json"\n')
    machine.environment["NETBRIDGE_TARGET"] = "sandbox"
    done = machine.netbridge("up", "--", "cat", "/sys/class/net/nb0/mtu")
    assert (done.returncode, done.stdout) == (0, "1404\n"), done.stderr
    assert json.loads(done.stderr.splitlines()[0])["event"] == "starting"


def test_denied_and_excluded_destinations(machine: Machine) -> None:
    with machine.web_server() as url:
        denied = machine.netbridge("up", "sandbox", "--deny", ADDRESS, "--", "curl", "-sS", "-m", "5", url)
        excluded = machine.netbridge("up", "sandbox", "-x", f"{ADDRESS}/24", "--", "curl", "-sS", "-m", "5", url)
    assert denied.returncode == 7
    assert re.search(rf"denied: tcp from 198[.]18[.]\d+[.]2 port \d+ to {ADDRESS} port \d+: denied by", denied.stderr)
    assert excluded.returncode == 2, "bits behind the prefix are a usage error"
    assert "10.88.0.0/24 was perhaps meant" in excluded.stderr


def test_under_sudo_everything_is_the_callers(machine: Machine) -> None:
    """COMMAND, the log and the capture are those of the user who called sudo."""
    machine.environment |= {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}
    done = machine.netbridge("up", "sandbox", "--log-file", "log", "--pcap", "pcap", "--", "id", "-u")
    assert (done.returncode, done.stdout) == (0, "65534\n"), done.stderr
    assert {os.stat(machine.folder / name).st_uid for name in ("log", "pcap", "run")} == {65534}


# --- the ways to stop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_it_cleanly(machine: Machine, place: str, number: int) -> None:
    before = (machine.folder / "resolv.conf").read_text()
    with machine.running("up", place) as program:
        program.until(b"ready\n")
        assert (machine.folder / "resolv.conf").read_text() != before
        program.signal(number)
        assert program.ended(6) == 0
        assert b"stopped after" in program.said
        assert b"did not confirm" not in program.said
    assert (machine.folder / "resolv.conf").read_text() == before
    assert os.listdir(machine.folder / "run") == []


def test_a_signal_ends_the_command_too(machine: Machine) -> None:
    with machine.running("up", "sandbox", "--", "sleep", "1000") as program:
        program.until(b"running sleep 1000\n")
        program.signal(signal.SIGTERM)
        assert program.ended(8) == 143


def test_q_and_enter_on_a_pipe_stops_it(machine: Machine, place: str) -> None:
    reading, writing = os.pipe()
    try:
        with machine.running("up", place, stdin=reading) as program:
            program.until(b"ready\n")
            os.write(writing, b"quit?\nno\n")
            time.sleep(0.3)
            assert program.process.poll() is None
            os.write(writing, b" Q\n")
            assert program.ended(6) == 0
            assert b"q was pressed" in program.said
    finally:
        os.close(reading)
        os.close(writing)


def test_the_end_of_standard_input_does_not_stop_it(machine: Machine, place: str) -> None:
    with machine.running("up", place, stdin=subprocess.DEVNULL) as program:
        program.until(b"ready\n")
        time.sleep(0.3)
        assert program.process.poll() is None
        program.signal(signal.SIGTERM)
        assert program.ended(6) == 0


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"])
def test_a_key_on_a_terminal_stops_it_and_the_terminal_is_as_before(machine: Machine, place: str, key: bytes) -> None:
    with machine.running("up", place, "--gui", "false", terminal=True) as program:
        program.until(b"ready")
        wait_until(lambda: program.terminal_settings() != program.settings, "single keys")
        program.until(b"q or ctrl-c stops the bridge")
        program.type(b"x")
        time.sleep(0.2)
        assert program.process.poll() is None
        program.type(key)
        assert program.ended(6) == 0
        assert program.terminal_settings() == program.settings
        assert program.blocking, "O_NONBLOCK would stay with the user's shell"
        assert b"^C" not in program.said or key == b"\x03"


def test_the_command_has_the_terminal(machine: Machine) -> None:
    """ctrl-c and q are COMMAND's while it runs."""
    with machine.running("up", "sandbox", "--", "sh", "-c", "trap 'echo caught' INT; read a; echo got $a; exit 9",
                         terminal=True) as program:
        program.until(b"running sh")
        time.sleep(0.5)
        program.type(b"\x03")
        program.until(b"caught")
        program.type(b"q\n")
        assert program.ended(8) == 9
        assert program.terminal_settings() == program.settings


def test_the_sandboxs_shell_survives_its_interrupts(machine: Machine) -> None:
    # On a dumb terminal (CI has none at all) readline would scroll the prompt out of sight.
    machine.environment |= {"SHELL": "/bin/bash", "TERM": "xterm"}
    with machine.running("up", "sandbox", terminal=True) as program:
        program.until(b"(sandbox)")
        for keys in (b"\x03", b"sleep 1000\n", b"\x03", b"echo still$((40+2))here; exit 3\n"):
            program.type(keys)
            time.sleep(0.5)  # bash throws away what is typed just after an interrupt
        program.until(b"still42here")
        assert program.ended(8) == 3
        assert program.terminal_settings() == program.settings


def test_down_stops_it_and_waits(machine: Machine, place: str) -> None:
    with machine.running("up", place) as program:
        program.until(b"ready\n")
        (bridge,) = machine.status()
        assert (bridge["target"], bridge["state"], bridge["number"]) == (place, "running", 0)
        assert bridge["captured"] == [{"network": "10.88.0.0/24", "reason": "connected to corp0"}]
        shown = machine.netbridge("status")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "captured: 10.88.0.0/24" in shown.stdout
        wrong = machine.netbridge("down", "sandbox")
        assert wrong.returncode == 3
        assert "No bridge to sandbox is running." in wrong.stderr
        done = machine.netbridge("down")
        assert done.returncode == 0, done.stderr
        assert program.ended(2) == 0
    assert machine.status() == []


def test_down_with_several_wants_to_know_which(machine: Machine) -> None:
    with machine.running("up", "sandbox", "--", "sleep", "1000") as first:
        first.until(b"running")
        with machine.running("up", "sandbox", "--", "sleep", "1000") as second:
            second.until(b"198.18.1.2/30")
            second.until(b"running")
            asked = machine.netbridge("down")
            assert asked.returncode == 2
            assert "2 bridges are running" in asked.stderr
            assert machine.netbridge("down", "1").returncode == 0
            assert second.ended(8) == 143
            assert first.process.poll() is None
            assert machine.netbridge("down", "--all").returncode == 0
            assert first.ended(8) == 143


# --- violence ---------------------------------------------------------------------------------------------------------


def test_kill_9_leaves_nothing_and_the_next_up_works(machine: Machine) -> None:
    with machine.running("up", "sandbox", "--", "sleep", "1000") as program:
        program.until(b"running sleep")
        wait_until(lambda: any(b"sleep" in words for _, words in program.descendants()), "the command")
        processes = program.descendants()
        program.signal(signal.SIGKILL)
        assert program.ended() == -signal.SIGKILL
    wait_until(lambda: not alive(processes), "the sandbox ends with the bridge")
    wait_until(lambda: machine.pids() == [], "every process ends with the bridge")
    assert sorted(os.listdir(machine.folder / "run")) == ["0.lock", "0.sock"]
    done = machine.netbridge("up", "sandbox", "--", "ip", "-br", "address", "show", "nb0")
    assert done.returncode == 0, done.stderr
    assert "198.18.0.2/30" in done.stdout
    assert os.listdir(machine.folder / "run") == []


def test_kill_9_puts_the_targets_resolver_back(machine: Machine, place: str) -> None:
    before = (machine.folder / "resolv.conf").read_text()
    with machine.running("up", place, "--grace", "1") as program:
        program.until(b"ready\n")
        assert (machine.folder / "resolv.conf").read_text() != before
        program.signal(signal.SIGKILL)
        program.ended()
        wait_until(lambda: (machine.folder / "resolv.conf").read_text() == before, "the agent puts resolv.conf back")
    wait_until(lambda: machine.pids() == [], "every process ends with the bridge")


def test_a_second_interrupt_does_not_wait_for_a_hung_agent(machine: Machine, place: str) -> None:
    with machine.running("up", place) as program:
        program.until(b"ready\n")
        agents = hang_agents(program)
        try:
            program.signal(signal.SIGINT)
            program.until(b"ctrl-c was pressed")
            began = time.monotonic()
            program.signal(signal.SIGINT)
            assert program.ended(3) == 0
            assert time.monotonic() - began < 2
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
    wait_until(lambda: (machine.folder / "resolv.conf").read_text().startswith("nameserver"), "resolv.conf")


@pytest.mark.slow
def test_a_hung_agent_delays_the_stop_by_five_seconds_at_most(machine: Machine, place: str) -> None:
    with machine.running("up", place) as program:
        program.until(b"ready\n")
        agents = hang_agents(program)
        try:
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            assert program.ended(8) == 0
            assert time.monotonic() - began < 6
            assert b"did not confirm" in program.said
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)


def hang_agents(program: Program) -> list[int]:
    """Stop (SIGSTOP) the agent's processes."""
    agents = [pid for pid, words in program.descendants() if b"-I\0-S\0-B" in words]
    assert agents
    for pid in agents:
        os.kill(pid, signal.SIGSTOP)
    return agents


# --- targets that are not there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "code"), [
    ("exec:false", 3), ("exec:no-such-program", 5), ("exec:echo hello", 3), ("exec:sh -c 'exit 127'", 5),
])
def test_a_target_that_is_none(machine: Machine, target: str, code: int) -> None:
    done = machine.netbridge("up", target)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("netbridge: ")
    assert os.listdir(machine.folder / "run") == []


def test_a_start_that_hangs_can_be_interrupted(machine: Machine) -> None:
    with machine.running("up", "exec:sleep 1000") as program:
        program.until(b"reaching the target")
        time.sleep(0.5)
        program.signal(signal.SIGINT)
        assert program.ended(6) == 0
