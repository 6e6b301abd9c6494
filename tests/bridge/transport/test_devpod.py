"""devpod:// by both SSHes, through a stand-in for devpod whose tunnel leads to a server like DevPod's own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netbridge.bridge.errors import (
    BridgeError,
    NotPermittedError,
    TargetLacksError,
    TargetStoppedError,
    TargetUnreachableError,
)
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.base import Channel, Transport
from netbridge.bridge.transport.devpod import configured_user

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # `tests` is no installed package

from tests.world.containers import StandIns

from .listener import Listener, echo, me

SSHES = pytest.mark.parametrize("ssh", ["openssh", "asyncssh"])
BLOCK = """# DevPod Start {name}.devpod
Host {name}.devpod
  ForwardAgent yes
  LogLevel error
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  HostKeyAlgorithms rsa-sha2-256,rsa-sha2-512,ssh-rsa
  ProxyCommand "/usr/local/bin/devpod" ssh --stdio --context default --user {user} {name}
  User {user}
# DevPod End {name}.devpod

"""


@dataclass
class Devpod:
    """The stand-in and what it leads to."""

    clients: StandIns
    home: Path
    log: Path

    @property
    def users(self) -> list[str]:
        """Who logged in."""
        return self.log.read_text().splitlines()

    def configure(self, *blocks: tuple[str, str], rest: str = "") -> None:
        """Write what DevPod writes for workspaces (name, user), and what a person wrote besides."""
        folder = self.home / ".ssh"
        folder.mkdir(exist_ok=True)
        (folder / "config").write_text("".join(BLOCK.format(name=name, user=user) for name, user in blocks) + rest)


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIns]:
    with StandIns(tmp_path / "it's 100%h bin") as made:
        monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server like DevPod's own, and the file of who logged in."""
    users = tmp_path_factory.mktemp("devpod") / "users"
    script = Path(__file__).with_name("devpod_server.py")
    with subprocess.Popen([sys.executable, script, users], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), users
        process.kill()


@pytest.fixture
def devpod(
    clients: StandIns, server: tuple[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Devpod:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("SSH_AUTH_SOCK", "SUDO_UID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    port, users = server
    users.write_text("")
    clients.tell(workspaces={"work": {"state": "Running", "address": "127.0.0.1", "port": port}})
    return Devpod(clients, home, users)


async def reach(target: str, ssh: str) -> tuple[Transport, Channel]:
    transport = make_transport(target, ssh=ssh, log=print, interactive=False)
    await transport.connect()
    return transport, await transport.open("cat")


async def failure(target: str, ssh: str = "openssh") -> BridgeError:
    transport = make_transport(target, ssh=ssh, log=print, interactive=False)
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(30):
            await transport.connect()
            await transport.open("cat")
    await transport.close()
    assert caught.value.what
    assert caught.value.todo
    assert str(caught.value).isprintable()
    return caught.value


@SSHES
async def test_megabytes_through_the_tunnel(devpod: Devpod, ssh: str) -> None:
    devpod.configure(("other", "wrong"), ("work", "vscode"), ("work2", "wrong"), rest="Host *\n  User wrong\n")
    transport, channel = await reach("devpod://work", ssh)
    assert transport.peer_address is None
    await echo(channel, 3_000_000)
    channel.close()
    await channel.wait_closed()
    await transport.close()
    assert devpod.users == ["vscode"]
    assert devpod.clients.words("devpod") == [["ssh", "--stdio", "--user", "vscode", "work"]]


@SSHES
async def test_the_targets_user_counts_before_the_written_one(devpod: Devpod, ssh: str) -> None:
    devpod.configure(("work", "vscode"))
    transport, channel = await reach("devpod://root@work", ssh)
    channel.close()
    await channel.wait_closed()
    await transport.close()
    assert devpod.users == ["root"]
    assert devpod.clients.words("devpod") == [["ssh", "--stdio", "--user", "root", "work"]]


@SSHES
async def test_a_tunnel_that_ends_is_a_loss(devpod: Devpod, ssh: str) -> None:
    devpod.clients.tell(idle_seconds=1.0)  # how the stand-in can be made to end
    transport, channel = await reach("devpod://work", ssh)
    error = await Listener(channel).lost
    assert isinstance(error, TargetUnreachableError)
    assert error.what == "The tunnel to the workspace work ended."
    assert "unexpected EOF" in error.why
    await transport.close()


@SSHES
@pytest.mark.parametrize(("text", "kind", "what", "todo"), [
    ("[03:14:15] fatal workspace work doesn't exist", TargetStoppedError, "There is no workspace work.",
     "devpod list"),
    ("fatal DevPod workspace is stopped", TargetStoppedError, "The workspace work is stopped.", "devpod up work"),
    ("fatal DevPod workspace wasn't found", TargetStoppedError, "The workspace work has no container any more.",
     "devpod up work"),
    ("fatal provider with name aws not found", TargetUnreachableError, "devpod lacks the provider", "provider list"),
    ("fatal not logged in, please login via 'devpod pro login'", NotPermittedError, "devpod is not logged in.",
     "devpod pro login"),
    ("error Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
     TargetUnreachableError, "The Docker engine behind the workspace work is not reachable.", "systemctl start docker"),
    ("permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
     NotPermittedError, "devpod may not open Docker's socket.", "usermod"),
    ("fatal unknown flag: --stdio", TargetLacksError, "devpod is too old", "devpod.sh"),
    ("dial tcp 10.0.0.1:22: i/o timeout", TargetUnreachableError, "The machine of the workspace work", "devpod status"),
    ("\x1b[31mevil\x1b[2J text", TargetUnreachableError, "The workspace work could not be reached", "devpod ssh work"),
])
async def test_what_devpod_says(
    devpod: Devpod, ssh: str, text: str, kind: type[BridgeError], what: str, todo: str
) -> None:
    devpod.clients.tell(says={"devpod": {"err": text}})
    error = await failure("devpod://work", ssh)
    assert type(error) is kind
    assert error.what.startswith(what)
    assert todo in error.todo
    assert "says: " in error.why


@pytest.mark.parametrize(("state", "what"), [
    ("Stopped", "The workspace work is stopped."), ("NotFound", "The workspace work has no container any more."),
])
async def test_workspaces_that_cannot_be_entered(devpod: Devpod, state: str, what: str) -> None:
    devpod.clients.tell(workspaces={"work": {"state": state}})
    assert (await failure("devpod://work")).what == what
    assert (await failure("devpod://elsewhere")).what == "There is no workspace elsewhere."


@pytest.mark.parametrize(("text", "user"), [
    ("", "root"),
    ("Host work.devpod\n  User other\n", "root"),  # not DevPod's own block
    (BLOCK.format(name="work", user="vscode"), "vscode"),
    (BLOCK.format(name="work2", user="vscode"), "root"),
    (BLOCK.format(name="work", user="-oProxyCommand=x"), "root"),
    (BLOCK.format(name="work", user="a b"), "root"),
    ("# DevPod Start work.devpod\n\tuser=\"dev\"\n", "dev"),
])
def test_whom_devpod_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, user: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(text)
    assert configured_user("work", me()) == user
