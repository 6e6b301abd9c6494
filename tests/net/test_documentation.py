"""The commands of README.md and docs/ that are marked `world`, typed as they stand there.

The test bed plays what the pages call by name: `devbox`, an SSH host with a user `me`, is the codespace; corp.internal
is corp's domain, whose nameserver is the laptop's. A bridge (or a listener) that nothing follows in its line runs until
its block is over, and ends with status 0.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.docs.blocks import Block, Step, marked
from tests.world import Machine, Program, World, servers
from tests.world.addresses import BRANCH, CODESPACE, CORP, SSH_PORT
from tests.world.bridge import environment
from tests.world.machine import wait_until

pytestmark = pytest.mark.net

STAYS = re.compile(r"netbridge (?:up|forward|socks)\b(?!.* -- )(?!.*&)")
"""A command that runs until it is stopped."""
PATIENCE = 30.0
NAMES = ("intranet", "db", "redis", "www")
USER = 54410


def add_user(codespace: World) -> None:
    """`me` over there, with passwordless sudo and the laptop's key."""
    machine = codespace.codespace
    home = machine.folder / "homes/documented"
    home.mkdir()
    etc = machine.folder / "etc"
    for file, line in (
        ("passwd", f"me:x:{USER}:{USER}::{home}:/bin/sh"), ("group", f"me:x:{USER}:"),
        ("shadow", "me:*:19000:0:99999:7:::"),
    ):
        with open(etc / file, "a") as stream:
            stream.write(line + "\n")
    shutil.chown(home, USER, USER)
    rule = etc / "sudoers.d/me"
    rule.write_text("me ALL=(ALL) NOPASSWD:ALL\n")
    rule.chmod(0o440)


@pytest.fixture(scope="module")
def documented(world: World) -> Iterator[World]:
    """The world under the names of the pages."""
    laptop = world.laptop
    add_user(world)
    config = laptop.folder / "home/.ssh/config"
    config_before = config.read_text()
    place = [f"HostName {CODESPACE[4]}", f"Port {SSH_PORT}", f"HostKeyAlias [{CODESPACE[4]}]:{SSH_PORT}"]
    config.write_text(config_before + "\n  ".join(["Host devbox", *place]) + "\n")
    program = laptop.folder / "documented/netbridge"
    program.parent.mkdir()
    variables = " ".join(f"{key}={value}" for key, value in environment().items())
    # sudo keeps no variables
    program.write_text(f"#!/bin/sh\nexport {variables}\nexec '{sys.executable}' -m netbridge \"$@\"\n")
    program.chmod(0o755)
    zone = ["  local-zone: corp.internal. static"]
    zone += [f"  local-data: '{name}.corp.internal. A {CORP[4]}'" for name in NAMES]
    zone += [f"  local-data: 'branch.corp.internal. A {BRANCH[4]}'"]
    servers.unbound(world.branch, [BRANCH[4]], zone)
    wait_until(lambda: laptop.answers(BRANCH[4], 53), "the nameserver of corp.internal")
    for machine, whose, port in ((laptop, "this machine", 8088), (world.codespace, "the codespace", 3000)):
        pages = machine.folder / "documented-pages"
        pages.mkdir()
        (pages / "index.html").write_text(f"a page on {whose}'s loopback\n")
        machine.start(
            "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", pages, str(port), log="pages.log")
        wait_until(functools.partial(machine.answers, "127.0.0.1", port), f"the page on {whose}")
    resolv = laptop.folder / "resolv.conf"
    resolv_before = resolv.read_text()
    resolv.write_text(f"nameserver {BRANCH[4]}\nsearch corp.internal\n")
    path_before = laptop.environment.get("PATH")
    laptop.environment["PATH"] = f"{program.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    yield world
    resolv.write_text(resolv_before)
    config.write_text(config_before)
    if path_before is None:
        del laptop.environment["PATH"]
    else:
        laptop.environment["PATH"] = path_before


class Typing:
    """Types the steps of one block."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.running: list[tuple[Step, Program, str]] = []

    def step(self, step: Step) -> None:
        machine = self.world.codespace if step.inside else self.world.laptop
        if STAYS.match(step.command):
            self.begin(machine, step)
            return
        done = machine.run(
            "sh", "-c", f"exec 2>&1; {step.command}", timeout=PATIENCE, environment=environment())
        assert done.code == 0, f"{step.command}: exit {done.code}\n{done.stdout}"
        if step.expected is not None:
            printed = done.stdout.replace("\r\n", "\n")
            assert step.pattern().fullmatch(printed), f"{step.command}\nprinted\n{printed}\nand not\n{step.expected}"

    def begin(self, machine: Machine, step: Step) -> None:
        log = f"documented-{time.monotonic_ns()}.log"
        program = machine.start(
            "sh", "-c", f"exec 2>&1; exec {step.command}", log=log, environment=environment())
        self.running.append((step, program, log))
        pattern = step.pattern() if step.expected else re.compile(r"(?s).*(: ready|over there|into the codespace)\n")

        def shown() -> bool:
            if pattern.match(self.said(log)):
                return True
            assert program.running, f"{step.command} ended\n{self.said(log)}"
            return False

        try:
            wait_until(shown, f"{step.command} to print what is shown", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\nit printed\n{self.said(log)}\nand not\n{step.expected}") from None

    def said(self, log: str) -> str:
        return (self.world.laptop.folder / log).read_text(errors="replace")

    def end(self) -> None:
        """Stop what runs, the last first; each ends as asked, unless the block itself stopped it."""
        for step, program, log in reversed(self.running):
            if program.running:
                program.signal(signal.SIGINT)
            code = program.wait(15)
            assert code == 0, f"{step.command}: exit {code}\n{self.said(log)}"

    def give_up(self) -> None:
        """Whatever happened, nothing runs afterwards; a bridge that is asked to end leaves nothing over there."""
        for _step, program, _log in reversed(self.running):
            program.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(10)
            program.kill()


@pytest.mark.parametrize("block", marked("world"), ids=str)
def test_commands_do_what_the_page_shows(idle: World, documented: World, block: Block) -> None:
    typing = Typing(documented)
    try:
        for step in block.steps():
            typing.step(step)
        typing.end()
    finally:
        typing.give_up()
