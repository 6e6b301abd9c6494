"""`netbridge link` on the command line: what it refuses, in words and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLACE = "tcp+tls://127.0.0.1:4430"


def link(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NETBRIDGE_")}
    return subprocess.run(
        [sys.executable, "-m", "netbridge", "link", *words], env=environment | variables, capture_output=True,
        text=True, timeout=30, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture
def psk(tmp_path: Path) -> str:
    file = str(tmp_path / "psk")
    assert link("key", file).returncode == 0
    return file


@pytest.mark.parametrize("words", [("listen", PLACE), ("connect", PLACE, "--socks", "0")])
def test_nothing_runs_open(words: tuple[str, ...]) -> None:
    done = link(*words)
    assert done.returncode == 2
    assert "would be open to everybody. Nothing says who may be at the other end. Make a key by" in done.stderr


def test_a_key_is_printed() -> None:
    done = link("key")
    assert done.stdout.startswith("nbk1_")
    assert len(done.stdout.strip()) == 48
    assert "holds no key" in link("listen", PLACE, NETBRIDGE_LINK_PSK="secret").stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("listen", PLACE, "--exit", "--entrance"), "One end cannot be both."),
        (("connect", PLACE), "Nothing would go through the link."),
        (("connect", PLACE, "--exit", "--socks", "1080"), "An exit has nothing of an entrance."),
        (("connect", PLACE, "--socks", "1080", "--deny", "local"), "An entrance has nothing of an exit."),
        (("connect", PLACE, "--tun", "x", "--socks", "1080"), "The kernel cannot share the link."),
        (("connect", PLACE, "--tun", "x", "--route", "0.0.0.0/0"), "0.0.0.0/0 cannot be led through the link."),
        (("connect", PLACE, "--socks", "1080", "--command", "x"), "--command is of ssh:// alone."),
        (("listen", PLACE, "--sessions", "0"), "Nobody could be joined."),
        (("listen", PLACE, "--mtu", "100"), "An MTU is not 100."),
        (("listen", PLACE, "--cert", "x"), "The certificates are not complete."),
        (("listen", "quic://127.0.0.1:1", "--cert", "x", "--key", "x", "--ca", "x"), "goes without certificates."),
        (("listen", PLACE, "--cert", "x", "--key", "x", "--ca", "x"), "The certificates cannot be used."),
        (("listen", "ssh://devbox"), "ssh: is nothing to listen at."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(psk: str, words: tuple[str, ...], told: str) -> None:
    done = link(*words, "--psk", psk)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_is_there(psk: str) -> None:
    done = link("connect", "tcp+tls://127.0.0.1:1", "--psk", psk, "--socks", "127.0.0.1:0")
    assert done.returncode == 3
    assert "tcp+tls://127.0.0.1:1 was not joined." in done.stderr
