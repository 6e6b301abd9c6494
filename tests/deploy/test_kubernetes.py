"""deploy/kubernetes: valid by Kubernetes' own schemas, locked down, true to the program: its arguments run, and what
its probes and its Service ask is answered.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from netbridge.bridge.joint import key
from tests.world.machine import wait_until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes"
KINDS = ("deployment", "service", "networkpolicy")
VERSIONS = ("1.28", "1.31", "1.34", "1.37")


def manifest(kind: str) -> Any:
    return yaml.safe_load((FOLDER / f"{kind}.yaml").read_text())


def container() -> Any:
    (one,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    return one


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_manifests_are_valid(kind: str, version: str) -> None:
    kubernetes_validate.validate(manifest(kind), version, strict=True)


def test_a_misspelt_manifest_is_not() -> None:
    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_kustomize_finds_them_all() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    made = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60, check=True)
    kinds = [one["kind"] for one in yaml.safe_load_all(made.stdout)]
    assert sorted(kinds) == ["Deployment", "NetworkPolicy", "Service"]


def test_it_runs_with_as_little_as_possible() -> None:
    pod = manifest("deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert not any(pod.get(host) for host in ("hostNetwork", "hostPID", "hostIPC"))
    locked = container()["securityContext"]
    assert locked == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "env" not in container(), "no secret stands in a manifest"
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:" in (DEPLOY / "Dockerfile").read_text()


def test_labels_and_ports_fit() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    names = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert manifest("service")["spec"]["selector"].items() <= labels.items()
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert {port["targetPort"] for port in manifest("service")["spec"]["ports"]} <= names.keys()
    arguments = " ".join(container()["args"])
    assert f"tcp+tls://*:{names['link']}" in arguments
    assert f"--health=0.0.0.0:{names['health']}" in arguments


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def exit_(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """The container's command with other ports and a key file as a Secret is mounted; what its ports became."""
    secret = tmp_path / "..data"
    secret.mkdir()
    (secret / "psk").write_text(key.make())
    (secret / "psk").chmod(0o440)
    (tmp_path / "psk").symlink_to("..data/psk")
    ports = {port["name"]: (port["containerPort"], free_port()) for port in container()["ports"]}
    words = " ".join(container()["args"]).replace("/etc/netbridge", str(tmp_path)).replace("0.0.0.0", "127.0.0.1")
    for was, is_ in ports.values():
        words = words.replace(f":{was}", f":{is_}")
    words = words.replace("*:", "127.0.0.1:")
    log = tmp_path / "log"
    with log.open("w") as sink:
        program = subprocess.Popen([sys.executable, "-m", "netbridge", *words.split()], stderr=sink, text=True)
    try:
        wait_until(lambda: program.poll() is not None or "listening" in log.read_text(), "listening", 30)
        assert program.poll() is None, log.read_text()
        yield program, {name: is_ for name, (_, is_) in ports.items()}
    finally:
        program.kill()
        program.wait()


def test_what_the_probes_ask_is_answered(exit_: tuple[subprocess.Popen[str], dict[str, int]]) -> None:
    program, ports = exit_
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container()[probe]["httpGet"]
        url = f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200
            assert re.match(rb'\{"sessions": 0, "most": 16,', answer.read())
    for port in manifest("service")["spec"]["ports"]:
        socket.create_connection(("127.0.0.1", ports[port["targetPort"]]), 5).close()
    program.terminate()
    assert program.wait(20) == 0, "within terminationGracePeriodSeconds"
