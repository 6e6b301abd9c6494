"""Both event loops for the channels, and a real SSH server of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from .server import SshServer, missing_programs

BOTH_LOOPS = {"test_process.py", "test_exec.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in BOTH_LOOPS or "two_hundred_megabytes" in item.name:
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A running sshd on loopback, and a home folder of a user who may log in there."""
    if missing := missing_programs():
        pytest.skip(f"{missing} is missing: install openssh-server and openssh-client")
    server = SshServer(Path(tmp_path_factory.mktemp("ssh")))
    with server:
        yield server
