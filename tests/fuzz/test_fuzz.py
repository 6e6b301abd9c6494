"""The named corpus and a short run of every target; and that the engine would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )


TARGETS = [line.split()[0] for line in fuzz("--list").stdout.splitlines()]
RUNS = 40


@pytest.fixture(scope="module")
def short_run() -> subprocess.CompletedProcess[str]:
    """Every target on its corpus and on some mutations of it."""
    return fuzz("--runs", str(RUNS))


def test_every_target_has_an_invariant_and_a_corpus() -> None:
    assert len(TARGETS) >= 20
    for target in TARGETS:
        assert (ROOT / "fuzz" / "targets" / f"{target}.py").read_text().startswith('"""')
        assert len(list((ROOT / "fuzz" / "corpus" / target).glob("*.hex"))) >= 5
    assert {path.name for path in (ROOT / "fuzz" / "corpus").iterdir()} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_and_some_mutations_of_it(target: str, short_run: subprocess.CompletedProcess[str]) -> None:
    (line,) = [line for line in short_run.stdout.splitlines() if line.startswith(f"{target} ")] or [""]
    assert line.endswith(" ok"), short_run.stdout + short_run.stderr
    assert int(line.split()[1]) > RUNS


def test_the_corpus_reaches_the_parsers() -> None:
    pytest.importorskip("coverage", reason="without coverage nobody knows which lines are reached")
    done = fuzz("--coverage")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " of the named corpus:" in done.stdout


def test_the_same_seed_does_the_same_and_another_does_not() -> None:
    runs = [fuzz("--target", "ipv6", "--runs", "300", "--seed", seed).stdout for seed in ("1", "1", "2", "3")]
    assert runs[0] == runs[1]
    assert len(set(runs)) > 1


BROKEN = '''
import sys
sys.path.insert(0, "src")
from fuzz.engine import fuzz
from fuzz.target import Target

class Planted(Target):
    def corpus(self):
        return {"near": bytes.fromhex("45000000")}

def run(data):
    assert not (len(data) > 2 and data[0] == 0x45 and data[2] == 0xff)
    return len(data)

result = fuzz(Planted("planted", "no 0xff third", run, lambda data: data), runs=20000)
assert isinstance(result.error, AssertionError), result
assert result.failure is not None and result.failure[2] == 0xff
print("found after", result.runs)
'''


@pytest.mark.parametrize("engine", ["atheris", "own"])
def test_a_short_run_by_time(engine: str) -> None:
    if engine == "atheris":
        pytest.importorskip("atheris", reason="there is no wheel of atheris for this machine")
    done = fuzz("--target", "tcp_options", "--seconds", "1", "--engine", engine)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tcp_options")]
    assert int(line.split()[1]) > 9
    assert line.endswith(" ok")


def test_a_planted_bug_is_found() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )
    assert done.stdout.startswith("found after"), done.stderr


MISTAKES = """
import sys
sys.path.insert(0, "src")
from fuzz.target import load
target = load("tcp_machine")
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.reassembly import Reassembly
from netbridge.stack.tcp.receiver import Receiver
from netbridge.stack.tcp.sender import Sender

def wider(self, seq, ack, window, now):
    return update_window(self, seq, ack, window + 5000, now)

take, update_window = Reassembly.take, Sender.update_window
for owner, method, wrong in (
    (Reassembly, "take", lambda self, at: take(self, at - 1)),  # bytes are given twice
    (Receiver, "release", lambda self: None),  # the budget is forgotten
    (Sender, "update_window", wider),  # more is sent than was allowed
    (Connection, "_syn_timeout", lambda self: None),  # a timer is due for ever
):
    right = getattr(owner, method)
    setattr(owner, method, wrong)
    broken = 0
    for data in target.corpus().values():
        try:
            target.run(data)
        except Exception:
            broken += 1
    setattr(owner, method, right)
    print(method, broken)
"""


def test_the_machine_notices_mistakes() -> None:
    """The named programs alone break with each of them."""
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )
    found = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, broken in found if int(broken)] == [
        "take", "release", "update_window", "_syn_timeout",
    ], done.stdout + done.stderr  # fmt: skip


def test_replaying_one_input(tmp_path: Path) -> None:
    path = tmp_path / "input.hex"
    path.write_text("45")
    done = fuzz("--target", "ipv4", "--replay", str(path))
    assert done.stdout.endswith("\noutcome: IPv4 header is cut short\n")
    assert fuzz("--replay", str(path)).returncode == 2
