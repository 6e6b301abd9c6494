"""The log file: its size, who moves it, who owns it, and what it does where it cannot be written."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from netbridge.bridge import events
from netbridge.bridge.options import Options
from netbridge.cli.logfile import KEPT, LogFile
from netbridge.cli.output import Output

from .program import SOURCE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")


@pytest.fixture(name="complaints")
def what_was_complained() -> list[str]:
    return []


def opened(path: Path, size: int, complaints: list[str]) -> LogFile:
    return LogFile(path, size, complaints.append)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_at_its_size_it_becomes_the_first_of_three_old_ones(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    log = opened(path, 100, complaints)
    for number in range(100):
        log.write(f"line {number:03}")  # 9 bytes each
    log.close()
    names = ["log", *(f"log.{number}" for number in range(1, KEPT + 1))]
    assert sorted(os.listdir(tmp_path)) == names
    assert all((tmp_path / name).stat().st_size <= 100 for name in names)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    text = "".join((tmp_path / name).read_text() for name in reversed(names))
    numbers = [int(line.split()[1]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 100)), "the newest lines, in order, none missing"
    assert complaints == []


def test_size_zero_is_no_end(tmp_path: Path, complaints: list[str]) -> None:
    log = opened(tmp_path / "log", 0, complaints)
    for _ in range(1000):
        log.write("x" * 100)
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").stat().st_size == 101_000


def test_an_old_file_is_continued(tmp_path: Path, complaints: list[str]) -> None:
    (tmp_path / "log").write_text("before\n")
    log = opened(tmp_path / "log", 100, complaints)
    log.write("after")
    log.close()
    assert (tmp_path / "log").read_text() == "before\nafter\n"


@pytest.mark.parametrize("recreate", [False, True])
def test_a_file_moved_away_is_opened_anew(tmp_path: Path, complaints: list[str], recreate: bool) -> None:
    """logrotate with `nocreate` and with `create`."""
    path = tmp_path / "log"
    log = opened(path, 1 << 20, complaints)
    before = descriptors()
    log.write("old")
    path.rename(tmp_path / "moved")
    if recreate:
        path.touch(0o640)
    log.write("new")
    assert descriptors() == before
    log.close()
    assert (tmp_path / "moved").read_text() == "old\n"
    assert path.read_text() == "new\n"
    assert complaints == []


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_with_the_real_logrotate(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    (tmp_path / "conf").write_text(f"{path} {{\n  rotate 2\n  create\n}}\n")
    (tmp_path / "conf").chmod(0o644)
    log = opened(path, 1 << 20, complaints)
    log.write("old")
    subprocess.run(["logrotate", "--force", "--state", tmp_path / "state", tmp_path / "conf"], check=True)
    log.write("new")
    log.close()
    assert (path.read_text(), (tmp_path / "log.1").read_text()) == ("new\n", "old\n")


def test_two_bridges_with_one_file_lose_nothing(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    one, other = opened(path, 1000, complaints), opened(path, 1000, complaints)
    for number in range(100):
        (other if number % 3 else one).write(f"{number:019}")
    one.close()
    other.close()
    names = [f"log.{number}" for number in range(KEPT, 0, -1) if (tmp_path / f"log.{number}").exists()] + ["log"]
    text = "".join((tmp_path / name).read_text() for name in names)
    assert [int(line) for line in text.splitlines()] == list(range(100))


def test_a_link_is_followed_at_first_and_never_moved(tmp_path: Path, complaints: list[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "log")
    log = opened(tmp_path / "link", 10, complaints)
    for _ in range(5):
        log.write("x" * 20)
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["link", "log"]
    assert (tmp_path / "log").stat().st_size == 5 * 21


def test_a_link_that_takes_the_files_place_is_not_followed(tmp_path: Path, complaints: list[str]) -> None:
    path, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("precious\n")
    log = opened(path, 1 << 20, complaints)
    path.rename(tmp_path / "moved")
    path.symlink_to(victim)
    log.write("evil")
    log.close()
    assert victim.read_text() == "precious\n"
    assert len(complaints) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_once_and_hurts_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(Options(target="t", log_file=Path("/dev/full")))
    before = descriptors()
    for _ in range(100):
        output.event(events.Ready("t"))
    assert descriptors() <= before
    output.close()
    said = capsys.readouterr().err.splitlines()
    assert said.count("netbridge: ready") == 100
    (told,) = [line for line in said if line != "netbridge: ready"]
    assert "hint: the log file /dev/full cannot be written: No space left on device; lines are lost" in told


@needs_root
@pytest.mark.net
def test_the_log_goes_on_when_the_disk_has_room_again(tmp_path: Path) -> None:
    """A real file system of 16 KiB, filled up and emptied again."""
    program = (
        "import os\n"
        "from netbridge.cli.logfile import LogFile\n"
        "from pathlib import Path\n"
        "told = []\n"
        "log = LogFile(Path('log'), 0, told.append)\n"
        "log.write('before')\n"
        "with open('filler', 'wb', 0) as filler:\n"
        "    try:\n"
        "        while True: filler.write(bytes(512))\n"
        "    except OSError: pass\n"
        "for number in range(1000): log.write('lost' * 20)\n"
        "os.unlink('filler')\n"
        "log.write('after')\n"
        "log.close()\n"
        "lines = Path('log').read_text().splitlines()\n"
        "print(lines[0], lines[-1][-5:], len(lines) < 1000, len(told))\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=16k none "$1" && cd "$1" && exec "$2" -c "$3"',
         "sh", tmp_path, sys.executable, program],
        env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True, timeout=30, check=False,
    )
    assert (done.stdout, done.stderr) == ("before after True 1\n", "")


def test_a_file_that_cannot_be_moved_grows(tmp_path: Path, complaints: list[str]) -> None:
    path = tmp_path / "log"
    for number in range(1, KEPT + 1):  # in the way, as root may change any folder
        (tmp_path / f"log.{number}").mkdir()
    log = opened(path, 100, complaints)
    for _ in range(30):
        log.write("x" * 9)
    log.close()
    assert path.read_text() == ("x" * 9 + "\n") * 30
    assert 1 <= len(complaints) <= 3
    assert "cannot be moved" in complaints[0]


@needs_root
def test_under_sudo_every_file_is_the_callers(
    tmp_path: Path, complaints: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"SUDO_UID": "65534", "SUDO_GID": "65534", "SUDO_USER": "nobody"}.items():
        monkeypatch.setenv(name, value)
    log = opened(tmp_path / "log", 50, complaints)
    for _ in range(20):
        log.write("x" * 20)
    log.close()
    assert {(path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()} == {(65534, 0o600)}
    assert len(list(tmp_path.iterdir())) == KEPT + 1
