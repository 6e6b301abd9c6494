"""The process in front: how long it waits, what it says at its end, and what a signal to it means."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = str(Path(__file__).parents[3] / "src")
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from netbridge.bridge.agent import front


def serve(socket):
    print("serving", os.getpid(), os.getsid(0) == os.getpid(), flush=True)
    for word in sys.stdin:
        word = word.strip()
        if word.startswith("tell"):
            front.tell(socket, int(word.split()[1]))
        elif word == "close":
            socket.close()
        elif word == "hear":
            print(repr(socket.recv(10)), flush=True)
        elif word == "raise":
            raise ValueError("a bug")
        elif word.startswith("return"):
            return int(word.split()[1])
    return 9

status = front.split(serve, lambda: None)
sys.exit(status)
"""


class Split:
    """A program that split itself; what is said goes to the one behind, what ends is the one in front."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, SOURCES], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        word, pid, own_session = self.hear().split()
        assert word == "serving"
        assert own_session == "True"
        self.behind = int(pid)

    def say(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ends(self) -> int:
        return self.process.wait(10)


@pytest.fixture
def split() -> Iterator[Split]:
    split = Split()
    yield split
    split.process.kill()
    split.process.communicate()


def test_it_ends_with_the_status_it_is_told_while_the_other_goes_on(split: Split) -> None:
    split.say("tell 7")
    split.say("close")
    assert split.ends() == 7
    assert Path(f"/proc/{split.behind}/comm").exists()


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (255, 255), (256, 0), (-1, 255)])
def test_a_status_is_one_byte(split: Split, status: int, expected: int) -> None:
    split.say(f"tell {status}")
    split.say("close")
    assert split.ends() == expected


def test_an_end_without_a_word_is_a_failure(split: Split) -> None:
    split.say("close")
    assert split.ends() == 1


def test_a_defect_behind_it_is_printed_and_is_a_failure(split: Split) -> None:
    split.say("raise")
    assert split.ends() == 1
    assert split.process.stderr
    assert "ValueError: a bug" in split.process.stderr.read()


def test_the_last_word_counts(split: Split) -> None:
    split.say("tell 3")
    split.say("tell 4")
    split.say("return 5")
    assert split.ends() == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_passed_on_as_the_end_of_the_connection(split: Split, number: signal.Signals) -> None:
    split.process.send_signal(number)
    split.say("hear")
    assert split.hear() == "b''"
    split.say("tell 0")
    split.say("close")
    assert split.ends() == 0


def test_when_it_is_killed_the_other_hears_of_it(split: Split) -> None:
    split.process.kill()
    split.say("hear")
    assert split.hear() == "b''"
    split.say("tell 0")  # for nobody
    split.say("return 0")


@pytest.mark.slow
def test_a_signal_ends_it_whatever_the_other_does(split: Split) -> None:
    split.process.send_signal(signal.SIGTERM)
    assert split.process.wait(15) == -signal.SIGALRM
