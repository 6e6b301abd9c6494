"""No secret gets out: a real bridge (and a link) with everything told that can be told, and every place looked through
in which somebody else, or a file that is sent along with a bug report, would find one.

The program itself says which secrets it makes: a module that Python loads first writes each of them down.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, Program, World
from tests.world.addresses import CORP, HTTP_PORT
from tests.world.bridge import NETBRIDGE, ROOT
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .test_resume import break_it
from .test_traces import agents

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
NOTE = """
import json, os, secrets, sys
made = secrets.token_hex
def token_hex(size=None):
    value = made(size)
    frame = sys._getframe(1)
    with open(os.environ["NOTED"], "a") as file:
        file.write(json.dumps([frame.f_globals.get("__name__", ""), frame.f_lineno, value]) + "\\n")
    return value
secrets.token_hex = token_hex
"""
OURS = {"netbridge.bridge.setup", "netbridge.bridge.back.service"}
"""The modules whose random text is a secret: of the session, for its resumption, and of the way back. What others make
is a name or a mark, to be seen by everybody."""
PROXY = "hunter2-of-the-proxy"
TOKEN = "gho_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def noted(world: World) -> Iterator[Path]:
    """A file in which the secrets stand that netbridge makes on the laptop."""
    laptop = world.laptop
    folder = laptop.folder / "noting"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(NOTE)
    file = folder / "noted"
    file.unlink(missing_ok=True)
    yield file


def command_lines(machine: Machine) -> str:
    """What everybody on the machine may see of its processes: words, names."""
    found = []
    for pid in machine.processes(below=True):
        for name in ("cmdline", "comm"):
            try:
                found.append(Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(found)


def environments(pids: list[int]) -> str:
    return "\n".join(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace") for pid in pids)


def private_key(path: Path) -> list[str]:
    """Every line of it but the first and the last."""
    return path.read_text().splitlines()[1:-1]


def test_a_bridge_keeps_its_secrets(idle: World, start: Start, noted: Path) -> None:
    laptop, codespace = idle.laptop, idle.codespace
    log = laptop.folder / "secrets.log"
    said: dict[str, str] = {}
    before = Snapshot.of(codespace)
    laptop.environment.update(NOTED=str(noted), HTTPS_PROXY=f"http://me:{PROXY}@127.0.0.1:9", GH_TOKEN=TOKEN)
    words = (sys.executable, "-X", "faulthandler", "-m", "netbridge")
    prefix = ("env", f"PYTHONPATH={noted.parent}:{ROOT / 'src'}", *words)
    try:
        more = ("--trace-level", "trace", "--log-file", str(log))
        bridge = start(TARGET, "--ssh", "openssh", *more, prefix=prefix).ready()
        assert codespace.answers(CORP[4], HTTP_PORT)
        status = laptop.run(*NETBRIDGE, "status", "--json", environment={"PYTHONPATH": str(ROOT / "src")})
        said["status --json"] = status.check().stdout
        commands = "status --flows", "trace www.corp.test:80", "trace --json 10.99.0.2:80", f"doctor --json {TARGET}"
        for command in commands:
            done = laptop.run(*NETBRIDGE, *command.split(), environment={"PYTHONPATH": str(ROOT / "src")}, timeout=60)
            said[command] = done.stdout + done.stderr
        for port in ("22", "1"):  # one that answers, one that does not
            done = laptop.run(
                *NETBRIDGE, "connect", "localhost", port, stdin=b"\n", environment={"PYTHONPATH": str(ROOT / "src")}
            )
            said[f"connect {port}"] = done.stderr
        said["processes here"] = command_lines(laptop)
        said["processes there"] = command_lines(codespace)
        said["environments there"] = environments(list(agents(idle, before)))
        break_it(idle)
        wait_until(lambda: bridge.event("resumed"), "the bridge to go on", 30)
        said["processes there, resumed"] = command_lines(codespace)
        said["sockets there"] = codespace.shell("cat /proc/net/unix; ls -R /tmp /run").stdout
        bridge.stop()
        said["standard error"] = bridge.said
        said["the log"] = log.read_text()
    finally:
        for name in ("NOTED", "HTTPS_PROXY", "GH_TOKEN"):
            laptop.environment.pop(name, None)
    made = [json.loads(line) for line in noted.read_text().splitlines()]
    secrets = {f"{module}:{line}": value for module, line, value in made if module in OURS}
    assert {name.partition(":")[0] for name in secrets} == OURS, made
    secrets.update({"the proxy's password": PROXY, "gh's token": TOKEN})
    for number, line in enumerate(private_key(idle.key)):
        secrets[f"the SSH key, line {number}"] = line
    for place, text in said.items():
        assert text, place
        for name, secret in secrets.items():
            assert secret not in text, f"{name} stands in {place}"


def test_a_link_keeps_its_key(world: World, tmp_path: Path) -> None:
    """By the environment and by a file; the right key, and a wrong one, whose failure is told."""
    laptop = world.laptop
    environment = {"PYTHONPATH": str(ROOT / "src")}
    key = laptop.run(*NETBRIDGE, "link", "key", environment=environment).check().stdout.strip()
    wrong = laptop.run(*NETBRIDGE, "link", "key", environment=environment).check().stdout.strip()
    log = laptop.folder / "link-secrets.log"
    log.unlink(missing_ok=True)
    programs: list[Program] = []

    def start(*words: str, key: str) -> None:
        more = {**environment, "NETBRIDGE_LINK_PSK": key}
        programs.append(laptop.start(*NETBRIDGE, "link", *words, log=log.name, environment=more))

    try:
        start("listen", "tcp+tls://127.0.0.1:8443", "--exit", key=key)
        wait_until(lambda: laptop.answers("127.0.0.1", 8443), "the link", 20)
        start("connect", "tcp+tls://127.0.0.1:8443", "--socks", "127.0.0.1:1081", key=key)
        start("connect", "tcp+tls://127.0.0.1:8443", "--socks", "127.0.0.1:1082", key=wrong)
        wait_until(lambda: not programs[-1].running or "proof" in log.read_text() or "key" in log.read_text(),
                   "the wrong key to be refused", 30)  # fmt: skip
        # `sh` under ssh's name tells what a child of ours is given
        shown = laptop.folder / "shown"
        fake = laptop.folder / "fake-ssh"
        fake.mkdir(exist_ok=True)
        (fake / "ssh").write_text(f"#!/bin/sh\nenv >{shown}\n")
        (fake / "ssh").chmod(0o755)
        start_path = {**environment, "NETBRIDGE_LINK_PSK": key, "PATH": f"{fake}:{os.environ['PATH']}"}
        programs.append(laptop.start(
            *NETBRIDGE, "link", "connect", "ssh://me@box", "--socks", "127.0.0.1:1083", log=log.name,
            environment=start_path,
        ))  # fmt: skip
        wait_until(lambda: shown.exists() and shown.read_text(), "the child's environment", 20)
        for place, text in {
            "log": log.read_text(), "processes": command_lines(laptop), "a child's environment": shown.read_text(),
        }.items():
            assert key not in text, place
            assert wrong not in text, place
    finally:
        for program in programs:
            program.kill()


def test_what_is_printed_of_an_object_holds_no_secret() -> None:
    """In a traceback or a debug line."""
    from netbridge.bridge.joint.credentials import Credentials
    from netbridge.bridge.user import helper_user

    assert "sesame" not in repr(Credentials(psk=b"sesame"))
    assert TOKEN not in repr(helper_user({"GH_TOKEN": TOKEN, "HOME": "/"}))
