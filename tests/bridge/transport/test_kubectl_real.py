"""The real kubectl, with a stand-in for the cluster (kubernetes_api.py): its options, its words, its exit codes and its
stream are those we count on. The stand-in speaks WebSocket, which kubectl does by itself since 1.31.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbridge.bridge.bootstrap import launch
from netbridge.bridge.errors import (
    BridgeError,
    NotPermittedError,
    TargetLacksError,
    TargetStoppedError,
    TargetUnreachableError,
)
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.base import Channel, Transport

from .kubernetes_api import Api
from .listener import Listener, echo
from .server import free_port

EKS = "arn:aws:eks:eu-west-1:123456789012:cluster/dev"


def _why_not() -> str:
    if not shutil.which("kubectl"):
        return "needs kubectl"
    told = subprocess.run(
        ["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=False, timeout=30
    ).stdout
    found = re.match(r"v(\d+)\.(\d+)", json.loads(told or b"{}").get("clientVersion", {}).get("gitVersion", ""))
    if not found or (int(found[1]), int(found[2])) < (1, 31):
        return f"needs kubectl 1.31, this is {found and found[0]}: the stand-in for the cluster speaks WebSocket only"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    with Api() as api:
        for name in ("SUDO_UID", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        (tmp_path / "config").write_text(api.configuration("minikube", EKS, current="minikube"))
        yield api


async def reach(target: str, command: str = "cat") -> tuple[Transport, Channel]:
    transport = make_transport(target, ssh=None, log=print, interactive=False)
    await transport.connect()
    return transport, await transport.open(command)


async def failure(target: str) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(30):
            await reach(target)
    assert caught.value.todo
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize(("target", "container"), [
    ("k8s://default/web", "app"), ("k8s:///default/web/sidecar", "sidecar"), ("k8s://default/web/sidecar", "sidecar"),
    ("k8s://minikube/default/web", "app"), (f"k8s://{EKS}/default/web/sidecar", "sidecar"),
])
async def test_megabytes_come_back_equal(api: Api, target: str, container: str) -> None:
    _, channel = await reach(target)
    await echo(channel, 2_000_000)
    channel.close()
    assert await channel.wait_closed() == 0
    (query,) = api.cluster.asked
    assert query == {"command": ["sh"], "container": [container], "stdin": ["true"], "stdout": ["true"],
                     "stderr": ["true"]}  # fmt: skip


async def test_an_agent_starts_there(api: Api) -> None:
    if os.geteuid():
        pytest.skip("the agent wants root, and here that would take a sudo without a password")
    transport = make_transport("k8s://default/web", ssh=None, log=print, interactive=False)
    await transport.connect()
    agent = await launch(transport)
    assert agent.hello["host"] == os.uname().nodename
    await agent.stop()


async def test_an_exit_status_is_the_commands(api: Api) -> None:
    _, channel = await reach("k8s://default/web", "exit 42")
    await Listener(channel).lost
    assert await channel.wait_closed() == 42


async def test_a_command_is_a_filter(api: Api) -> None:
    code = (
        "import asyncio\nfrom netbridge.bridge.transport import make_transport\n"
        "async def main():\n"
        "    transport = make_transport('k8s://default/web', ssh=None, log=print, interactive=False)\n"
        "    await transport.connect()\n"
        "    return await transport.run(['sh', '-c', 'tr a-z A-Z; exit 6'])\n"
        "raise SystemExit(asyncio.run(main()))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": os.path.join(os.getcwd(), "src")},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, _ = await process.communicate(b"hello " * 50_000)
    assert process.returncode == 6
    assert out == b"HELLO " * 50_000


NO_SHELL = (
    "error executing command in container: failed to exec in container: failed to start exec: OCI runtime exec failed:"
    ' exec failed: unable to start container process: exec: "sh": executable file not found in $PATH: unknown'
)


@pytest.mark.parametrize(("target", "told", "kind", "what"), [
    ("k8s://default/gone", {}, TargetStoppedError, "There is no pod gone in default."),
    ("k8s://default/web/nope", {}, TargetUnreachableError,
     "There is no container nope of the pod web in the namespace default."),
    ("k8s://default/web", {"phase": "Succeeded"}, TargetStoppedError,
     "The pod web in the namespace default is not running."),
    ("k8s://default/web", {"exec_fails": NO_SHELL}, TargetLacksError,
     "The pod web in the namespace default has no shell."),
    ("k8s://default/web", {"status": 401, "message": "Unauthorized"}, NotPermittedError,
     "kubectl is not logged in to the cluster."),
    ("k8s://default/web", {"status": 403, "message": 'pods "web" is forbidden: User "me" cannot get resource "pods"'},
     NotPermittedError, "The cluster does not let you into the pod web in the namespace default."),
])
async def test_what_the_cluster_refuses(
    api: Api, target: str, told: dict[str, object], kind: type[BridgeError], what: str
) -> None:
    for name, value in told.items():
        setattr(api.cluster, name, value)
    error = await failure(target)
    assert type(error) is kind
    assert error.what == what


async def test_configurations_that_lead_nowhere(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(config.read_text().replace(api.url, f"http://127.0.0.1:{free_port()}"))
    assert (await failure("k8s://default/web")).what == "The cluster is not reachable."
    config.write_text("{broken")
    assert (await failure("k8s://default/web/app")).what == "kubectl does not understand its configuration."
    config.write_text(api.configuration("minikube", current="gone"))
    assert (await failure("k8s://default/web")).what.startswith("kubectl knows no context")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert (await failure("k8s://default/web")).what == "kubectl has no current context."
