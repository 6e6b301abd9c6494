"""docker:// and k8s:// through stand-ins for their clients (tests/world/container_standin.py), whose containers are
this machine: the words they are called with, what is carried, and what becomes of their errors.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge import heart
from netbridge.bridge.bootstrap import launch
from netbridge.bridge.errors import (
    BridgeError,
    NotPermittedError,
    TargetLacksError,
    TargetStoppedError,
    TargetUnreachableError,
    UsageError,
)
from netbridge.bridge.options import Options
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.base import Channel, Transport
from netbridge.stack.link.base import LinkError

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # `tests` is no installed package

from tests.world.containers import StandIns

from .keyboard import Keyboard
from .listener import Listener, echo, gone

EKS = "arn:aws:eks:eu-west-1:123456789012:cluster/dev"
POD = {"place": "box", "containers": ["app", "sidecar"]}
BOTH = pytest.mark.parametrize("target", ["docker://box", "k8s://default/web"])
RUN = """
import asyncio
from netbridge.bridge.transport import make_transport

async def main():
    transport = make_transport({target!r}, ssh=None, log=print, interactive={terminal})
    await transport.connect()
    print("start", flush=True)
    print("status", await transport.run({argv!r}), flush=True)

asyncio.run(main())
"""


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIns]:
    for name in ("SUDO_UID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    with StandIns(tmp_path / "it's 100%h bin") as made:
        monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
        yield made


async def reach(target: str, command: str = "cat") -> tuple[Transport, Channel]:
    transport = make_transport(target, ssh=None, log=print, interactive=False)
    await transport.connect()
    return transport, await transport.open(command)


async def failure(target: str) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(20):
            await reach(target)
    assert caught.value.what
    assert caught.value.todo
    assert str(caught.value).isprintable()
    return caught.value


# --- the way there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "program", "words"), [
    ("docker://box", "docker", ["exec", "-i", "box", "sh"]),
    ("docker://root@box", "docker", ["exec", "-i", "-u", "root", "box", "sh"]),
    ("k8s://default/web", "kubectl", ["exec", "-i", "-n", "default", "web", "--", "sh"]),
    ("k8s://default/web/app", "kubectl", ["exec", "-i", "-n", "default", "web", "-c", "app", "--", "sh"]),
    ("k8s://prod/default/web", "kubectl", ["--context", "prod", "exec", "-i", "-n", "default", "web", "--", "sh"]),
    (f"k8s://{EKS}/default/web/app", "kubectl",
     ["--context", EKS, "exec", "-i", "-n", "default", "web", "-c", "app", "--", "sh"]),
])
async def test_what_the_client_is_called_with(clients: StandIns, target: str, program: str, words: list[str]) -> None:
    clients.tell(contexts=["prod", EKS], pods={f"{context}/default/web": POD for context in ("", "prod", EKS)})
    _, channel = await reach(target, "printf there; cat")
    assert await Listener(channel).until(5) == b"there"
    channel.close()
    assert await channel.wait_closed() == 0
    asked, *others = reversed(clients.words(program))
    assert asked == words
    assert others in ([], [["config", "get-contexts", "-o", "name"]])


@BOTH
async def test_megabytes_come_back_equal(clients: StandIns, target: str) -> None:
    _, channel = await reach(target)
    await echo(channel, 5_000_000)
    channel.close()
    await channel.wait_closed()


@BOTH
async def test_an_agent_starts_there(clients: StandIns, target: str) -> None:
    """The whole first stage, to `hello`; nothing is set up, so that nothing of this machine is changed."""
    if os.geteuid():
        pytest.skip("the agent wants root, and here that would take a sudo without a password")
    transport = make_transport(target, ssh=None, log=print, interactive=False)
    await transport.connect()
    agent = await launch(transport)
    assert agent.hello["host"] == os.uname().nodename
    assert await agent.ping(5.0) < 5.0
    await agent.stop()


@pytest.mark.parametrize(("pinged", "drops"), [(True, 0), (False, 1)])
async def test_an_idle_connection_is_not_let_idle(
    clients: StandIns, monkeypatch: pytest.MonkeyPatch, *, pinged: bool, drops: int
) -> None:
    """A load balancer before the cluster drops a connection after five minutes without a byte, here after two seconds.
    Without the link's PINGs it would: the stand-in is no cure by itself.
    """
    assert Options(target="k8s://default/web").ping_interval <= 60  # a fifth of the five minutes
    if os.geteuid():
        pytest.skip("the agent wants root, and here that would take a sudo without a password")
    monkeypatch.setattr(heart, "TICK", 0.1)
    clients.tell(idle_seconds=2.0)
    transport = make_transport("k8s://default/web", ssh=None, log=print, interactive=False)
    await transport.connect()
    agent = await launch(transport)
    lost = asyncio.Event()
    agent.on_lost = lambda _error: lost.set()
    link = heart.Heart(agent.framed, interval=0.5, awake=True, dead=lambda _seconds: LinkError("silent"))
    beating = asyncio.get_running_loop().create_task(link.beat()) if pinged else None
    try:
        async with asyncio.timeout(6.5):  # three times what is dropped, and a bit
            await lost.wait()
    except TimeoutError:
        pass
    assert lost.is_set() is not pinged
    assert len([call for call in clients.calls if call.get("dropped")]) == drops
    if beating is not None:
        beating.cancel()
        await asyncio.wait([beating])
    await agent.stop()


# --- COMMAND ----------------------------------------------------------------------------------------------------------


async def run(target: str, argv: list[str], data: bytes = b"") -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN.format(target=target, terminal=False, argv=argv),
        env={**os.environ, "PYTHONPATH": os.path.join(os.getcwd(), "src")},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate(data)
    return process.returncode, out, err


@BOTH
async def test_a_command_is_a_filter_without_a_terminal(clients: StandIns, target: str) -> None:
    argv = ["sh", "-c", "tr a-z A-Z; echo bad >&2; exit 6"]
    status, out, err = await run(target, argv, b"hello " * 50_000)
    assert status == 0
    assert out == b"start\n" + b"HELLO " * 50_000 + b"status 6\n"
    assert b"bad\n" in err
    (words,) = clients.words("docker" if "docker" in target else "kubectl")
    assert "-i" in words
    assert words[-len(argv) :] == argv


async def test_what_cannot_be_run(clients: StandIns) -> None:
    status, out, _err = await run("docker://box", ["no-such-program"])
    assert (status, out) == (0, b"start\nstatus 127\n")


@BOTH
def test_a_command_has_the_containers_terminal(clients: StandIns, target: str) -> None:
    code = RUN.format(target=target, terminal=True, argv=["sh", "-c", "tty; read line; echo got $line; exit 5"])
    with Keyboard(code, {"PATH": os.environ["PATH"]}) as keyboard:
        before = keyboard.settings()
        keyboard.expect("start")
        keyboard.expect("/dev/pts/")
        keyboard.type("word\n")
        keyboard.expect("got word")
        keyboard.expect("status 5")
        assert keyboard.end() == 0
        assert keyboard.settings() == before
    (words,) = clients.words("docker" if "docker" in target else "kubectl")
    assert "-it" in words


@BOTH
async def test_a_command_does_not_outlive_the_bridge(clients: StandIns, target: str, tmp_path: Path) -> None:
    """The clients leave it running when they are ended, with what it started."""
    told = tmp_path / "pids"
    script = f"trap '' HUP TERM; sleep 300 & echo $$ $! > {told}.new; mv {told}.new {told}; wait; sleep 300"
    transport = make_transport(target, ssh=None, log=print, interactive=False)
    await transport.connect()
    task = asyncio.get_running_loop().create_task(transport.run(["sh", "-c", script]))
    async with asyncio.timeout(10):
        while not told.exists():
            await asyncio.sleep(0.02)
    bystander = await asyncio.create_subprocess_exec("sleep", "300")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in map(int, told.read_text().split()):
        assert await gone(pid)
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()
    *_, words = clients.words("docker" if "docker" in target else "kubectl")
    assert not {"-i", "-it"} & set(words)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "target", "todo"), [
    ("docker", "docker://box", "exec:COMMAND"), ("kubectl", "k8s://ns/pod", "kubernetes.io"),
    ("devpod", "devpod://work", "devpod.sh"),
])
async def test_the_client_is_missing(
    monkeypatch: pytest.MonkeyPatch, program: str, target: str, todo: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("SUDO_UID", raising=False)
    error = await failure(target)
    assert isinstance(error, TargetLacksError)
    assert error.what == f"There is no {program} program on this machine."
    assert todo in error.todo


DOCKER_SAYS = [
    # what docker says (28.2 unless told otherwise), on which output, its exit code
    ("err", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", 1,
     TargetUnreachableError, "The Docker engine is not reachable.", "systemctl start docker"),
    # docker 29
    ("err", "failed to connect to the docker API at unix:///x; check if the path is correct and if the daemon runs", 1,
     TargetUnreachableError, "The Docker engine is not reachable.", "DOCKER_HOST"),
    ("err", 'Failed to initialize: unable to resolve docker endpoint: context "x": context not found: open /x', 1,
     TargetUnreachableError, "The Docker engine is not reachable.", "docker context"),
    ("err", 'permission denied while trying to connect to the Docker daemon socket at unix:///x: Get "http://%2Fx"', 1,
     NotPermittedError, "Docker's socket may not be opened.", "usermod -aG docker"),
    ("err", "Error: No such container: box", 1,  # docker 20.10
     TargetStoppedError, "There is no container box.", "docker ps"),
    ("err", "Error response from daemon: container box is restarting, wait until the container is running", 1,
     TargetUnreachableError, "The container box is restarting.", "docker logs box"),
    ("err", "Error: can only create exec sessions on running containers: container state improper", 255,  # podman
     TargetStoppedError, "The container box is not running.", "docker start box"),
    ("out", "unable to find user nobodyx: no matching entries in passwd file", 126,
     TargetLacksError, "The container box does not know its own user.", "docker://root@box"),
    ("out", "OCI runtime exec failed: exec failed: cannot exec in a paused container", 126,
     TargetLacksError, "In the container box no shell could be started.", "docker exec -i box sh"),
    ("err", "\x1b[31mevil\x1b[2J text", 1,
     TargetUnreachableError, "The container box could not be reached through docker.", "docker exec -i box sh"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "text", "status", "kind", "what", "todo"), DOCKER_SAYS)
async def test_what_docker_says(
    clients: StandIns, where: str, text: str, status: int, kind: type[BridgeError], what: str, todo: str
) -> None:
    clients.tell(says={"docker": {where: text, "status": status}})
    error = await failure("docker://box")
    assert type(error) is kind
    assert error.what == what
    assert todo in error.todo


@pytest.mark.parametrize(("containers", "kind", "what", "todo"), [
    ({}, TargetStoppedError, "There is no container box.", "docker ps --all"),
    ({"box": {"state": "exited"}}, TargetStoppedError, "The container box is not running.", "docker start box"),
    ({"box": {"state": "paused"}}, TargetUnreachableError, "The container box is paused.", "docker unpause box"),
    ({"box": {"state": "running", "shell": False}}, TargetLacksError, "The container box has no shell.", "Distroless"),
])
async def test_containers_that_cannot_be_entered(
    clients: StandIns, containers: dict[str, Any], kind: type[BridgeError], what: str, todo: str
) -> None:
    clients.tell(containers=containers)
    error = await failure("docker://box")
    assert type(error) is kind
    assert error.what == what
    assert todo in error.todo


KUBECTL_SAYS = [
    ("The connection to the server localhost:8080 was refused - did you specify the right host or port?",
     TargetUnreachableError, "kubectl has no current context.", "kubectl config use-context"),
    ("error: You must be logged in to the server (Unauthorized)",
     NotPermittedError, "kubectl is not logged in to the cluster.", "kubectl get pods -n default"),
    ("Unable to connect to the server: getting credentials: exec: executable aws failed with exit code 255",
     NotPermittedError, "kubectl is not logged in to the cluster.", "Log in"),
    ('Error from server (Forbidden): pods "web" is forbidden: User "me" cannot create resource "pods/exec" in the n…',
     NotPermittedError, "The cluster does not let you into the pod web in the namespace default.", "auth can-i create"),
    ('Error from server (NotFound): namespaces "default" not found',
     TargetStoppedError, "There is no namespace default.", "kubectl get pods -n default"),
    ('error: unable to upgrade connection: container not found ("web")',
     TargetStoppedError, "The pod web in the namespace default is not running.", "until it is Running"),
    ("Error from server (BadRequest): pod web does not have a host assigned",
     TargetStoppedError, "The pod web in the namespace default is not running.", "kubectl get pod web"),
    ("Error from server: error dialing backend: dial tcp 10.0.0.1:10250: i/o timeout",
     TargetUnreachableError, "The cluster does not reach the pod web in the namespace default.", "get nodes"),
    ("Unable to connect to the server: dial tcp: lookup k8s.corp.test: no such host",
     TargetUnreachableError, "The cluster is not reachable.", "cluster-info"),
    ("command terminated with exit code 126",
     TargetLacksError, "The pod web in the namespace default has no shell.", "Distroless"),
    ("\x1b[31mevil\x1b[2J text",
     TargetUnreachableError, "The pod web in the namespace default could not be reached through kubectl.", "exec -i"),
]


@pytest.mark.parametrize(("text", "kind", "what", "todo"), KUBECTL_SAYS)
async def test_what_kubectl_says(
    clients: StandIns, text: str, kind: type[BridgeError], what: str, todo: str
) -> None:
    clients.tell(says={"kubectl": {"err": text}})
    error = await failure("k8s://default/web")
    assert type(error) is kind
    assert error.what == what
    assert todo in error.todo


@pytest.mark.parametrize(("target", "told", "kind", "what", "todo"), [
    ("k8s://default/gone", {}, TargetStoppedError, "There is no pod gone in default.", "kubectl get pods"),
    ("k8s://minikube/default/web", {}, TargetStoppedError, "There is no pod default in minikube.",
     "read without a context, since kubectl knows none called minikube"),
    ("k8s://prod/web/app", {}, TargetStoppedError, "There is no pod app in web.", "read with the context prod"),
    ("k8s://nope/default/web/app", {}, TargetUnreachableError, "kubectl knows no context that", "get-contexts"),
    ("k8s://default/web/nope", {}, TargetUnreachableError,
     "There is no container nope of the pod web in the namespace default.", "kubectl describe pod web"),
    ("k8s://default/web", {"pods": {"/default/web": {**POD, "phase": "Succeeded"}}}, TargetStoppedError,
     "The pod web in the namespace default is not running.", "kubectl get pod web"),
    ("k8s://default/web/app", {"pods": {"/default/web": {**POD, "shell": False}}}, TargetLacksError,
     "The container app of the pod web in the namespace default has no shell.", "Distroless"),
    ("k8s://default/web", {"asks": True}, NotPermittedError, "kubectl is not logged in to the cluster.", "Log in"),
    ("k8s://default/Web/app", {}, UsageError, "The target 'k8s://default/Web/app' is not understood.", "k8s:///"),
])
async def test_pods_that_cannot_be_entered(
    clients: StandIns, target: str, told: dict[str, Any], kind: type[BridgeError], what: str, todo: str
) -> None:
    clients.tell(contexts=["prod"], **told)
    error = await failure(target)
    assert type(error) is kind
    assert error.what.startswith(what)
    assert todo in error.todo


@BOTH
async def test_an_end_under_way_is_told(clients: StandIns, target: str) -> None:
    _, channel = await reach(target, "exec sleep 300")
    listener = Listener(channel)
    while not clients.engine.commands:  # it may have spoken before the engine noted that it runs
        await asyncio.sleep(0.01)
    clients.engine.commands[-1].kill()
    error = await listener.lost
    assert isinstance(error, TargetUnreachableError)
    assert "is not reached any more" in error.what
