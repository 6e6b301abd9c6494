"""What every test relies on: one import name, and skips that say why.

The folders ``stack``, ``bridge`` and ``cli`` stand at the root and are imported as ``netbridge.stack`` and so on.
Importing ``stack`` itself would load each file a second time, with a second set of classes; it is refused here.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

import pytest

from tests.balanced import _balanced, pytest_runtest_teardown  # noqa: F401  at the end of every test

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ROOMS = ("stack", "bridge", "cli")


class _RefuseRooms(MetaPathFinder):
    """Refuses ``import stack``, ``import bridge`` and ``import cli``, from wherever they would be found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in ROOMS:
            msg = f"import netbridge.{fullname}, not {fullname}: it would be loaded a second time"
            raise ImportError(msg)
        return None


sys.meta_path.insert(0, _RefuseRooms())


def _why_no_namespaces() -> str | None:
    """Why network namespaces with a TUN cannot be built here; None when they can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "builds network namespaces: run as root (sudo make test)"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: modprobe tun, or give the container the device"
    if shutil.which("ip") is None:
        return "the program ip is missing: scripts/system-packages test"
    if os.system("unshare --net true 2>/dev/null") != 0:
        return "this container may not make network namespaces (CAP_SYS_ADMIN)"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``net`` where namespaces cannot be built."""
    marked = [item for item in items if item.get_closest_marker("net")]
    if not marked:
        return
    why = _why_no_namespaces()
    if why is None:
        return
    skip = pytest.mark.skip(reason=why)
    for item in marked:
        item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed may hold what no text may, lone surrogates; workers pass it on as UTF-8."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test's program told to the log, and how much, is no other test's."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
