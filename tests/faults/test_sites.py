"""Every call into the system is known, and the seam hits what it says."""

from __future__ import annotations

import ast
import os
import select
import socket
import threading
from pathlib import Path

import pytest

from netbridge.bridge.dns.watched import WatchedFile

from .seam import ERRNOS, Fault, Seam
from .sites import LIST, MODULES, ROOMS, ROOT, parsed, sites, strange

NAMES = {"strerror", "urandom", "inet_ntop", "inet_pton", "socket"}
"""Lower-case names that may be imported from those modules: they cannot fail, or are a class that the seam is in."""


def test_every_site_is_listed() -> None:
    listed, found = set(LIST.read_text().splitlines()), set(sites())
    new, gone = sorted(found - listed), sorted(listed - found)
    assert not new, "think of how these may fail, then `python -m tests.faults.sites`:\n" + "\n".join(new)
    assert not gone, "these are no more, `python -m tests.faults.sites`:\n" + "\n".join(gone)


def test_every_call_is_at_the_seam_or_said_not_to_be() -> None:
    assert strange() == []


def test_no_call_is_hidden_by_its_import() -> None:
    """`from os import open` would be called past the seam."""
    hidden = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.ImportFrom) and node.module in MODULES and not node.level:
                    names = {alias.name for alias in node.names if alias.name.islower()} - NAMES
                    hidden += [f"{path}: {name}" for name in names if node.module != "ctypes"]
    assert not hidden


@pytest.mark.parametrize("error", ["EMFILE", "EACCES"])
def test_a_call_fails_where_and_when_it_is_to(error: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    with Seam() as seam:
        site = "bridge.dns.watched:refresh:open"
        watched = WatchedFile(str(path), str)
        assert (watched.value, seam.calls[site]) == ("one", 1)
        seam.arm(Fault(site, error, 2, 2))
        for text in ("two", "three!"):
            path.write_text(text)
            watched.refresh()
            assert path.read_text() == text, "a test's own calls pass"
        assert seam.hits == 1
        assert watched.value == ("two" if error == "EMFILE" else "")
        watched.refresh()
        assert watched.value == "three!"
    assert os.open.__module__ == "posix"


def test_it_leaves_nothing_behind() -> None:
    before = [socket.socket.__init__, os.read, open, select.epoll, threading.Thread.start, socket.socket.send]
    with Seam():
        assert open is not before[2]
    after = [socket.socket.__init__, os.read, open, select.epoll, threading.Thread.start, socket.socket.send]
    assert after == before
    assert "send" not in vars(socket.socket)


def test_every_call_has_errors_of_its_own() -> None:
    assert all(ERRNOS.values())
    assert {name for name, errors in ERRNOS.items() if "EINTR" in errors} == set(), "Python tries again by itself"
