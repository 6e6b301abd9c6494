"""`netbridge link` between machines: the laptop is the exit, and programs in the codespace reach corp's servers."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbridge.stack.link.extras import need
from tests.world import Machine, Program, World
from tests.world.addresses import CLOSED_PORT, CODESPACE, CORP, HTTP_PORT, LAPTOP, POSTGRES_PORT, SSH_PORT
from tests.world.bridge import NETBRIDGE, environment
from tests.world.machine import wait_until

pytestmark = pytest.mark.net

HOST = LAPTOP[4]
PORT = 4430
PLACES = {
    "tcp+tls": f"tcp+tls://{HOST}:{PORT}", "tcp+tls over IPv6": f"tcp+tls://[{LAPTOP[6]}]:{PORT}",
    "wss": f"wss://{HOST}:{PORT}/link", "quic": f"quic://{HOST}:{PORT}", "libp2p": f"libp2p:///ip4/{HOST}/tcp/{PORT}",
}
WEB, DATABASE, CLOSED, SOCKS = 8080, 5432, 8081, 1080
FORWARDS = (
    "--forward", f"{WEB}:www.corp.test:{HTTP_PORT}", "--forward", f"{DATABASE}:{CORP[4]}:{POSTGRES_PORT}",
    "--forward", f"{CLOSED}:{CORP[4]}:{CLOSED_PORT}", "--socks", str(SOCKS),
)


class Link:
    """One running `netbridge link`."""

    def __init__(self, machine: Machine, log: Path, *words: str) -> None:
        self.log = log
        with log.open("wb") as sink:
            self.program: Program = machine.start(*NETBRIDGE, "link", *words, stderr=sink, environment=environment())

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, words: str, times: int = 1, timeout: float = 20.0) -> None:
        def there() -> bool:
            assert self.said.count(words) >= times or self.program.running, self.said
            return self.said.count(words) >= times

        wait_until(there, f"{words!r} in what link says", timeout)


Start = Callable[..., Link]


@pytest.fixture
def start(world: World) -> Iterator[Start]:
    begun: list[Link] = []

    def begin(machine: Machine, *words: str) -> Link:
        begun.append(Link(machine, machine.folder / f"link{len(begun)}.log", *words))
        return begun[-1]

    yield begin
    for link in begun:
        link.program.kill()


@pytest.fixture(scope="module")
def key(world: World) -> str:
    file = world.folder / "link.psk"
    made = subprocess.run([sys.executable, "-m", "netbridge", "link", "key", str(file)], env=environment(), check=True)
    assert made.returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    return str(file)


def scheme(place: str) -> None:
    if place.startswith("libp2p"):
        try:
            need("libp2p", "libp2p")
        except ImportError:
            pytest.skip("libp2p is not installed")


def page(world: World, *words: str) -> str:
    return world.codespace.run("curl", "-sS", "-m", "10", *words).check().stdout


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_corp_is_reached_from_the_codespace(world: World, start: Start, key: str, place: str) -> None:
    """nginx by its name, PostgreSQL, SOCKS, a refusal; the link breaks and is made anew; both end clean."""
    scheme(place)
    listen = start(world.laptop, "listen", place, "--psk", key)
    listen.until("listening")
    connect = start(world.codespace, "connect", place, "--psk", key, *FORWARDS)
    connect.until("joined")
    expected = world.corp.run("curl", "-sS", f"http://{CORP[4]}:{HTTP_PORT}/").check().stdout
    assert page(world, f"http://127.0.0.1:{WEB}/") == expected
    assert page(world, "--proxy", f"socks5h://127.0.0.1:{SOCKS}", "http://www.corp.test/") == expected
    psql = ("psql", "-X", "-h", "127.0.0.1", "-p", str(DATABASE), "-U", "postgres", "-d", "postgres", "-At")
    assert world.codespace.run(*psql, "-c", "SELECT 6 * 7").check().stdout == "42\n"
    refused = world.codespace.run("curl", "-sS", "-m", "10", f"http://127.0.0.1:{CLOSED}/")
    assert refused.code != 0
    assert "Connection refused" in connect.said

    listen.program.signal(signal.SIGTERM)
    assert listen.program.wait() == 0, listen.said
    connect.until("the link is lost")
    listen = start(world.laptop, "listen", place, "--psk", key)
    listen.until("joined (sessions: 1)")
    connect.until("joined", 2)
    assert page(world, f"http://127.0.0.1:{WEB}/") == expected
    connect.program.signal(signal.SIGINT)
    assert connect.program.wait() == 0, connect.said
    # py-libp2p may end before its last word is out: then silence tells, after 30 s.
    listen.until("left: " if place.startswith("libp2p") else "left: the other end closed the link", timeout=45.0)
    listen.program.signal(signal.SIGINT)
    assert listen.program.wait() == 0, listen.said
    assert "Traceback" not in connect.said + listen.said


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_another_key_is_told_in_plain_words_on_both_sides(
    world: World, start: Start, key: str, place: str, tmp_path: Path,
) -> None:  # fmt: skip
    scheme(place)
    other = world.folder / "other.psk"
    if not other.exists():
        subprocess.run([sys.executable, "-m", "netbridge", "link", "key", str(other)], env=environment(), check=True)
    listen = start(world.laptop, "listen", place, "--psk", key)
    listen.until("listening")
    place = place if not place.startswith("libp2p") else listen.said.split("listening: ")[1].split(",")[0].strip()
    connect = start(world.codespace, "connect", place, "--psk", str(other), "--forward", f"{WEB}:www.corp.test:80")
    assert connect.program.wait() == 4, connect.said
    assert "The other end does not accept this end's proof: it has another key" in connect.said
    listen.until("was not let in: the other end did not prove the key")


def test_an_exit_serves_several_at_once_and_denies_what_it_should(world: World, start: Start, key: str) -> None:
    place = PLACES["tcp+tls"]
    listen = start(
        world.laptop, "listen", place, "--psk", key, "--route", "10.99.0.0/24", "--deny", f"{CORP[4]}:{POSTGRES_PORT}",
        "--sessions", "2", "--health", "127.0.0.1:8089",
    )  # fmt: skip
    listen.until("listening")
    first = start(world.codespace, "connect", place, "--psk", key, *FORWARDS)
    first.until("joined")
    second = start(world.codespace, "connect", place, "--psk", key, "--socks", "1081")
    second.until("joined")
    third = start(world.codespace, "connect", place, "--psk", key, "--socks", "1082")
    assert third.program.wait() == 3
    assert "as many sessions as it takes" in third.said
    for words in ((f"http://127.0.0.1:{WEB}/",), ("--proxy", "socks5h://127.0.0.1:1081", "http://www.corp.test/")):
        assert page(world, *words)
    state = json.loads(world.laptop.run("curl", "-sS", "http://127.0.0.1:8089/healthz").check().stdout)
    assert state == {"sessions": 2, "most": 2, "served": 2, "refused": 1}
    for denied in (f"{CORP[4]}:{POSTGRES_PORT}", "127.0.0.1:22", "169.254.169.254:80", "10.97.0.2:80"):
        answer = world.codespace.run("curl", "-sS", "-m", "10", "--proxy", "socks5h://127.0.0.1:1081", f"http://{denied}/")
        assert answer.code != 0, denied
    first.program.signal(signal.SIGKILL)
    listen.until("left")
    assert page(world, "--proxy", "socks5h://127.0.0.1:1081", "http://www.corp.test/"), "sessions share nothing"


@pytest.mark.parametrize("place", [PLACES["tcp+tls"], PLACES["quic"]], ids=["tcp+tls", "quic"])
def test_the_kernel_as_an_entrance(world: World, start: Start, key: str, place: str) -> None:
    """With a TUN, every program of the codespace: curl, ping and a large download, by addresses."""
    listen = start(world.laptop, "listen", place, "--psk", key)
    listen.until("listening")
    connect = start(
        world.codespace, "connect", place, "--psk", key, "--tun", "nblink0", "--route", "10.99.0.0/24",
    )  # fmt: skip
    connect.until("joined")
    expected = world.corp.run("curl", "-sS", f"http://{CORP[4]}/").check().stdout
    assert page(world, f"http://{CORP[4]}/") == expected
    world.codespace.run("ping", "-c", "1", "-W", "5", CORP[4]).check()
    named = world.codespace.run("dig", "+short", "+time=5", "@198.18.255.1", "www.corp.test").check().stdout
    assert CORP[4] in named
    connect.program.signal(signal.SIGTERM)
    assert connect.program.wait() == 0, connect.said
    assert "nblink0" not in world.codespace.run("ip", "link").check().stdout


def test_by_ssh_the_laptop_is_the_exit_of_a_codespace(world: World, start: Start) -> None:
    """No key and no port: sshd lets the laptop in, and what it runs over there is the entrance."""
    there = " ".join([*NETBRIDGE, "link", "listen", "stdio:", "--entrance", "--forward", f"{WEB}:www.corp.test:80"])
    variables = " ".join(f"{name}={value}" for name, value in environment().items() if name == "PYTHONPATH")
    connect = start(
        world.laptop, "connect", f"ssh://root@{CODESPACE[4]}:{SSH_PORT}", "--exit", "--command",
        f"env {variables} {there}".strip(),
    )  # fmt: skip
    connect.until("joined ssh://")
    assert page(world, f"http://127.0.0.1:{WEB}/")
    connect.program.signal(signal.SIGINT)
    assert connect.program.wait() == 0, connect.said

    lacking = start(world.laptop, "connect", f"ssh://root@{CODESPACE[4]}:{SSH_PORT}", "--exit", "--command", "nowhere")
    assert lacking.program.wait() == 3
    assert "There is no such program over there" in lacking.said
    closed = start(world.laptop, "connect", f"ssh://root@{CODESPACE[4]}:1", "--exit")
    assert closed.program.wait() == 3
    assert "made no connection" in closed.said


def test_a_unix_socket_is_its_users_alone(world: World, start: Start) -> None:
    folder = world.laptop.folder / "linksocket"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    place = f"unix:{folder}/s"
    listen = start(world.laptop, "listen", place)
    listen.until("listening")
    assert (folder / "s").stat().st_mode & 0o777 == 0o600
    connect = start(world.laptop, "connect", place, "--socks", "1085")
    connect.until("joined")
    world.laptop.run("curl", "-sS", "-m", "10", "--proxy", "socks5h://127.0.0.1:1085", f"http://{CORP[4]}/").check()
    python = shutil.which("python3", path="/usr/bin")
    assert python
    stranger = world.laptop.run(
        "setpriv", "--reuid=65534", "--clear-groups", python, "-c",
        f"import socket; socket.socket(socket.AF_UNIX).connect({str(folder / 's')!r})",
    )  # fmt: skip
    assert re.search("PermissionError", stranger.stderr)
