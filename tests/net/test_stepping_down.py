"""`sudo netbridge …` ends as the person who typed it: what runs here, whose the files are, and what still works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Program, World
from tests.world.addresses import CORP
from tests.world.bridge import as_person, python_for_everybody
from tests.world.machine import wait_until
from tests.world.privileges import Privileges
from tests.world.snapshot import Snapshot
from tests.world.sshd import PERSON

from .test_traces import assert_restored, works

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
NAME, NUMBER = PERSON


@pytest.fixture
def sudo(idle: World) -> tuple[str, ...]:
    """The words that run netbridge by that person's sudo."""
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo, and a Python that ordinary users may run")
    folder = f"/run/user/{NUMBER}/netbridge"  # it stays, as the way to find bridges
    idle.laptop.run("install", "-d", "-m", "700", "-o", NAME, "-g", NAME, folder).check()
    return as_person(idle.laptop, python, sudo=True)


@pytest.fixture
def program(idle: World) -> Iterator[Callable[..., Program]]:
    """Start programs that end with the test."""
    started: list[Program] = []

    def start(*argv: str) -> Program:
        started.append(idle.laptop.start(*argv, log="stepping.log"))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def ours(world: World, words: str) -> list[Privileges]:
    """netbridge's processes on the laptop that were started with these words; sudo itself left out."""
    found = world.laptop.processes(below=True)
    mine = [pid for pid, line in found.items() if f"-m netbridge {words}" in line and "sudo " not in line]
    return [Privileges.of(pid) for pid in mine]


def is_the_person(process: Privileges) -> bool:
    return (
        process.users == process.groups == (NUMBER,) * 4 and process.others == {NUMBER}
        and not process.effective | process.permitted
    )


def roots_files(world: World) -> str:
    """What of root's is where the person's things are."""
    return world.laptop.run("find", world.laptop.folder / NAME, f"/run/user/{NUMBER}", "-uid", "0").stdout


def test_up_and_everything_that_asks_it(
    idle: World, start: Start, sudo: tuple[str, ...], program: Callable[..., Program], tmp_path: Path,
) -> None:
    laptop, home = idle.laptop, idle.laptop.folder / NAME
    here, there = Snapshot.of(laptop), Snapshot.of(idle.codespace)
    before = roots_files(idle)
    files = {home / "up.log": "--log-file", home / "up.pcapng": "--pcap"}
    options = [word for path, option in files.items() for word in (option, str(path))]
    bridge = start("ssh://mine", "--ssh", "openssh", "--metrics", "127.0.0.1:9464", *options, prefix=sudo).ready()
    assert works(idle)
    (main,) = ours(idle, "up")
    assert is_the_person(main), main
    clients = [pid for pid, line in laptop.processes().items() if line.startswith(("ssh ", "/usr/bin/ssh "))]
    assert clients and all(is_the_person(Privileges.of(pid)) for pid in clients)
    environment = Path(f"/proc/{clients[0]}/environ").read_bytes().split(b"\0")
    assert f"HOME={home}".encode() in environment
    assert not any(each.startswith((b"SUDO_", b"HOME=/root")) for each in environment)
    for path in files:
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (NUMBER, 0o600)

    lasting = {
        "status --watch": (), "capture": (), "connect localhost 22": (), "socks": ("--listen", "127.0.0.1:81"),
        "forward 80:localhost:22": (),
    }  # fmt: skip
    asking = [program(*sudo, *words.split(), *more) for words, more in lasting.items()]
    for words in lasting:
        wait_until(lambda: any(map(is_the_person, ours(idle, words))), f"`{words}` to be the person's", 20)  # noqa: B023
    wait_until(lambda: laptop.answers("127.0.0.1", 80) and laptop.answers("127.0.0.1", 81), "the low ports")
    assert roots_files(idle) == before
    laptop.run(*sudo, "down", "--all").check()
    assert bridge.ended() == 0
    for one in asking:
        one.kill()
    wait_until(lambda: not ours(idle, ""), "the programs that asked it to end", 20)
    for path in files:
        path.unlink()
    assert_restored(here, laptop)
    assert_restored(there, idle.codespace)


def test_the_sandbox(idle: World, start: Start, sudo: tuple[str, ...]) -> None:
    """Only what makes its namespaces, and the agent in it, is root; who takes its packets is not."""
    here, before = Snapshot.of(idle.laptop), roots_files(idle)
    pid_file = idle.laptop.folder / NAME / "pid"
    told = pid_file.with_name("told")
    wait = f"trap 'echo told >{told}; exit' HUP TERM; sleep 1000 & wait"
    script = f"curl -sS -m5 http://{CORP[4]}/ >/dev/null && id -u >{pid_file} && {{ {wait}; }}"
    bridge = start("sandbox", prefix=sudo, command=("sh", "-c", script)).ready()
    wait_until(pid_file.exists, "the sandbox's program to reach corp", 20)
    wait_until(pid_file.read_text, "its user")
    assert pid_file.read_text() == f"{NUMBER}\n"
    (main,) = ours(idle, "up sandbox")
    assert is_the_person(main), main
    assert roots_files(idle) == before
    me = as_person(idle.laptop, python_for_everybody())
    idle.laptop.run(*me, "down", "sandbox").check()
    bridge.ended()
    assert told.read_text() == "told\n", "its end came without a word, after all patience with it"
    told.unlink()
    pid_file.unlink()
    assert_restored(here, idle.laptop)


def test_a_stack_of_this_machine(
    idle: World, sudo: tuple[str, ...], program: Callable[..., Program],
) -> None:
    """The TUN is made by root, and served by the person; so is a link's listener."""
    laptop = idle.laptop
    pcap = laptop.folder / NAME / "stack.pcapng"
    program(*sudo, "stack", "serve", "--tun", "nbs7", "--address", "10.8.7.2/24", "--echo", "--pcap", str(pcap))
    wait_until(lambda: laptop.run("ping", "-c1", "-W1", "10.8.7.2").code == 0, "the stack to answer", 20, 0.1)
    (serving,) = ours(idle, "stack serve")
    assert is_the_person(serving), serving
    assert pcap.stat().st_uid == NUMBER
    place = laptop.folder / NAME / "link.sock"
    program(*sudo, "link", "listen", f"unix:{place}", "--exit")
    wait_until(place.exists, "the link to be listened for", 20)
    wait_until(lambda: any(map(is_the_person, ours(idle, "link listen"))), "it to be the person's")
    assert (place.stat().st_uid, place.stat().st_mode & 0o777) == (NUMBER, 0o600)


def test_root_that_is_nobodys_stays_root(idle: World, start: Start, sudo: tuple[str, ...]) -> None:
    """A login as root, or su: and a bridge of such a root is asked by sudo as before."""
    bridge = start("ssh://codespace", "--ssh", "openssh").ready()
    assert Privileges.of(bridge.pid).users == (0,) * 4
    assert "ssh://codespace" in idle.laptop.run(*sudo, "status", "--json").check().stdout
    idle.laptop.run(*sudo, "down", "--all").check()
    assert bridge.ended() == 0


def test_as_another_by_sudo(idle: World) -> None:
    """`sudo -u somebody` is that somebody, whatever SUDO_UID says."""
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo, and a Python that ordinary users may run")
    me = as_person(idle.laptop, python)
    words = [*me[: me.index("env")], "sudo", "-n", "-u", "nobody", *me[me.index("env") :]]
    output = idle.laptop.run(*words, "status", "--json", environment={"NETBRIDGE_RUNTIME_DIR": ""})
    assert "Traceback" not in output.stderr
    assert output.code in {0, 4}, output
    assert os.geteuid() == 0
