"""What people hear where their own machine refuses."""

from __future__ import annotations

import errno
import os

import pytest

from netbridge.bridge.shortage import TODO, refused, todo
from netbridge.cli.failures import told


@pytest.mark.parametrize("number", sorted(TODO), ids=lambda number: errno.errorcode[number])
def test_a_shortage_is_told_with_what_to_do(number: int) -> None:
    error = OSError(number, os.strerror(number), "/a/file")
    failure = told(error)
    assert failure.what == "This machine refuses what netbridge needs."
    assert failure.why == f"/a/file: {os.strerror(number)}."
    assert failure.todo == todo(error, "else") == TODO[number]
    assert failure.exit_code == 1


def test_no_more_threads() -> None:
    failure = refused(RuntimeError("can't start new thread"))
    assert failure is not None
    assert "threads" in failure.why


@pytest.mark.parametrize("error", [ConnectionRefusedError(errno.ECONNREFUSED, "no"), RuntimeError("a mistake")])
def test_anything_else_is_something_else(error: OSError | RuntimeError) -> None:
    assert refused(error) is None
    assert "in a way it should not" in told(error).what


def test_what_else_to_do_is_the_callers() -> None:
    assert todo(PermissionError(errno.EACCES, "no"), "Name another.") == "Name another."
