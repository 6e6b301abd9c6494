"""`netbridge capture` and `--pcap` with the real program, a real sandbox and the real tshark."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbridge.cli.program import run
from tests.cli.program import ADDRESS, Machine

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: scripts/system-packages test"),
]


@pytest.fixture(name="machine")
def own_machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        assert machine.pids() == [], "a process was left behind"


def read(path: Path, *fields: str, only: str = "") -> list[list[str]]:
    """The fields of each packet of a file, as the real tshark sees them, and that it finds no fault with the file."""
    words = ["tshark", "-n", "-r", str(path), "-Y", only, "-T", "fields", *(f"-e{field}" for field in fields)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    for fault in ("cut short", "damaged", "corrupt", "truncated"):
        assert fault not in done.stderr, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_super_segments_of_a_real_bridge(machine: Machine) -> None:
    with machine.web_server() as url:
        (machine.folder / "pages" / "big").write_bytes(bytes(5_000_000))
        done = machine.netbridge("up", "sandbox", "--pcap", "all", "--", "curl", "-sS", "-o", "/dev/null", f"{url}big")
    assert done.returncode == 0, done.stderr
    found = read(machine.folder / "all", "frame.len", "tcp.len", "frame.comment", "_ws.malformed", only="tcp")
    assert not any(row[3] for row in found)
    large = [row for row in found if int(row[0]) > 20_000]
    assert large
    assert all(row[2].startswith("super-segment: ") for row in large)
    assert sum(int(row[1]) for row in found) > 5_000_000
    assert read(machine.folder / "all", "http.request.uri", only="http.request") == [["/big"]]


def test_a_running_bridge_is_captured(machine: Machine, tmp_path: Path) -> None:
    with machine.web_server() as url, machine.running("up", "sandbox", "--", "sleep", "600") as bridge:
        bridge.until(b"running sleep")
        port = url.rpartition(":")[2].strip("/")
        with machine.running("capture", "sandbox", "-w", "some", "--filter", f"tcp host {ADDRESS} port {port}") as one:
            one.until(b"Capturing")
            place = next(pid for pid, words in bridge.descendants() if words.startswith(b"sleep"))
            for words in (["curl", "-sS", url], ["ping", "-c1", ADDRESS]):
                subprocess.run(["nsenter", "-t", str(place), "-n", *words], check=True, capture_output=True, timeout=20)
            one.signal(signal.SIGINT)
            assert one.ended() == 0
        ping = subprocess.Popen(
            ["nsenter", "-t", str(place), "-n", "ping", "-i", "0.3", "-c", "100", ADDRESS], stdout=subprocess.DEVNULL)
        try:
            piped = subprocess.run(
                ["sh", "-c", '"$@" capture 0 | tshark -n -l -c 2 -r - -T fields -e icmp.type', "sh",
                 *machine.words("-m", "netbridge")],
                env=machine.environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
            )
        finally:
            ping.kill()
            ping.wait()
        assert piped.stdout.split() == ["8", "0"], piped.stderr
        bridge.signal(signal.SIGTERM)
        bridge.ended()
    found = read(tmp_path / "some", "ip.proto", "tcp.port")
    assert len(found) > 5
    assert {row[0] for row in found} == {"6"}
    assert all(port in row[1] for row in found)
    assert (tmp_path / "some").stat().st_mode & 0o777 == 0o600


def test_what_is_not_there_or_not_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    assert run(["capture", "--write", str(tmp_path / "x")]) == 3
    assert "No bridge is running" in capsys.readouterr().err
    assert run(["capture", "--filter", "tpc", "--write", str(tmp_path / "x")]) == 2
    assert "'tpc'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
