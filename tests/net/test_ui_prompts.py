"""A key that is locked, and the terminal UI: questions are asked before it comes and after it went, never over it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import pytest

from tests.cli.tmux import Tmux
from tests.world import World
from tests.world.bridge import NETBRIDGE, environment

from .conftest import TARGET
from .test_resume import break_it

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is missing (scripts/system-packages test)"),
]
SHOWN = "q stop"
PHRASE = "quu sesame"
"""With letters that are keys of a bridge."""


@contextlib.contextmanager
def locked(world: World) -> Iterator[None]:
    """The laptop's key wants a passphrase."""
    world.laptop.run("ssh-keygen", "-q", "-p", "-P", "", "-N", PHRASE, "-f", world.key).check()
    try:
        yield
    finally:
        world.laptop.run("ssh-keygen", "-q", "-p", "-P", PHRASE, "-N", "", "-f", world.key).check()


@pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
def test_a_passphrase_is_asked_for_before_the_ui_and_after_it_but_not_over_it(world: World, ssh: str) -> None:
    laptop = world.laptop
    prefix = ["nsenter", "-t", str(laptop.init), "-m", "-n", "-p", "-u", "-i", "-w", "--"]
    variables = {**laptop._base_environment(), **environment()}
    with locked(world), Tmux(prefix, laptop.folder, variables, width=100, height=60) as tmux:
        tmux.until("shell>")
        tmux.run(*NETBRIDGE, "up", TARGET, "--ssh", ssh)
        screen = tmux.until("assphrase")
        assert SHOWN not in screen
        tmux.say(PHRASE)
        tmux.until(SHOWN, "● running")
        break_it(world)
        screen = tmux.until("reconnecting", "no connection yet (one try")
        assert SHOWN in screen
        assert "nter passphrase" not in screen, "asked over the UI"
        tmux.press("d")
        tmux.until("ctrl-c stops the bridge")
        tmux.until("assphrase for", times=2)
        tmux.say(PHRASE)
        tmux.until("the connection is there again", "u shows the terminal UI")
        tmux.press("u")
        tmux.until(SHOWN, "● running", "1 reconnects")
        tmux.press("q")
        tmux.until("stopped after", "shell>")
