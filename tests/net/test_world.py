"""What the other tests take for granted of the world they run in."""

from __future__ import annotations

import pytest

from tests.world import World
from tests.world.addresses import BRANCH, CODESPACE, CORP, HTTP_PORT
from tests.world.bridge import MARK
from tests.world.machine import wait_until

from .conftest import Through

pytestmark = pytest.mark.net


def test_a_sandbox_belongs_to_its_own_machine(idle: World) -> None:
    """Worlds of other test runs have sandboxes at the same depth; one that is mistaken for ours ends in mid-test."""
    program = idle.codespace.start("unshare", "--pid", "--fork", "sleep", MARK)
    try:
        wait_until(lambda: f"sleep {MARK}" in idle.codespace.processes(below=True).values(), "the command")
        assert f"sleep {MARK}" not in idle.codespace.processes().values()
        assert f"sleep {MARK}" not in idle.laptop.processes(below=True).values()
    finally:
        program.kill()


def test_only_corp_forwards(idle: World) -> None:
    """The laptop reaches the branch office; the codespace reaches neither, and nobody knows a way to it."""
    for version in (4, 6):
        assert idle.laptop.answers(BRANCH[version], HTTP_PORT)
        assert not idle.codespace.answers(CORP[version], HTTP_PORT)
        assert not idle.branch.answers(CODESPACE[version], HTTP_PORT)
        for machine in (idle.corp, idle.branch):
            assert machine.run("ip", "route", "get", CODESPACE[version]).code != 0


def test_what_a_bridge_has_counted_is_asked_of_it_and_adds_up(through: Through) -> None:
    """As every orderly end of a bridge in these tests asks; here, so that it is known to be asked at all."""
    if through.bridge is None:
        pytest.skip("NETBRIDGE_TEST_CONTROL: there is no bridge")
    for host in (CORP[4], f"[{CORP[6]}]", "www.corp.test", f"{CORP[4]}:9"):
        through.run("curl", "-sS", "-m5", f"http://{host}/")
    through.run("ping", "-c1", "-W2", CORP[4])
    through.run("ping", "-c1", "-W2", "169.254.169.254")
    wrong, files = through.bridge.last_words()
    assert not wrong, "\n".join(wrong)
    assert len(files) == 2
    assert all(path.exists() for path in files)
