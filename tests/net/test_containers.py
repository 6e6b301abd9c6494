"""docker:// with a real engine and the real client: containers without any network reach corp."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.world import Bridge, World
from tests.world.addresses import CORP
from tests.world.bridge import NETBRIDGE, as_person, environment, python_for_everybody
from tests.world.docker_engine import DockerEngine, EngineError
from tests.world.machine import wait_until

from .programs import unpacked

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PAGE = "<h1>corp</h1>\n"
TUN = ("--cap-add=NET_ADMIN", "--device=/dev/net/tun")


@pytest.fixture(scope="module")
def engine(world: World) -> Iterator[DockerEngine]:
    packages = unpacked("docker")
    try:
        with DockerEngine(world.folder / "engine", packages) as made:
            made.run("box", *TUN)
            yield made
    except EngineError as error:
        pytest.skip(f"the Docker engine does not run here: {error}")


@pytest.fixture
def docker(idle: World, engine: DockerEngine) -> Iterator[DockerEngine]:
    """The laptop's docker speaks to the engine."""
    path = f"{engine.bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    idle.laptop.environment.update(engine.environment, PATH=path)
    yield engine
    for name in (*engine.environment, "PATH"):
        del idle.laptop.environment[name]


@pytest.fixture
def container(docker: DockerEngine) -> Iterator[Callable[..., str]]:
    """Makes containers that are gone after the test; gives their names."""
    made: list[str] = []

    def make(*options: str, program: tuple[str, ...] = ("sleep", "infinity")) -> str:
        name = f"made-{len(made)}"
        made.append(name)
        docker.run(name, *options, program=program)
        return name

    yield make
    if made:
        docker.client("rm", "--force", *made)


def failed(bridge: Bridge, status: int) -> dict[str, str]:
    assert bridge.ended(30) == status, bridge.said
    found = bridge.event("failed")
    assert found, bridge.said
    return found


def test_a_container_reaches_corp_and_is_left_as_it_was(docker: DockerEngine, start: Start) -> None:
    def traces() -> tuple[str, str, list[str]]:
        return (
            docker.inside("box", "ip", "-o", "address").stdout, docker.inside("box", "cat", "/etc/resolv.conf").stdout,
            docker.processes("box"),
        )  # fmt: skip

    before = traces()
    bridge = start("docker://box").ready()
    assert docker.inside("box", "curl", "-sS", "-m5", f"http://{CORP[4]}/").stdout == PAGE
    assert docker.inside("box", "getent", "hosts", "v4only.corp.test").stdout.startswith(CORP[4])
    assert bridge.status()["agent"]["host"] == docker.inside("box", "hostname").stdout.strip()
    assert bridge.stop() == 0
    stopped = bridge.event("stopped")
    assert stopped and stopped["clean"] is True
    assert traces() == before


def test_command_is_a_filter(idle: World, docker: DockerEngine) -> None:
    words = ("up", "docker://box", "--", "sh", "-c", f"cat; curl -sS http://{CORP[4]}/; exit 42")
    output = idle.laptop.run(
        *NETBRIDGE, *words, stdin=b"\0binary\r\n\xff" * 9, environment=environment(), timeout=30
    )
    assert output.code == 42, output.stderr
    assert output.stdout == (b"\0binary\r\n\xff" * 9).decode(errors="replace") + PAGE


def test_command_has_a_terminal_where_there_is_one(idle: World, docker: DockerEngine) -> None:
    words = [*NETBRIDGE, "up", "docker://box", "--", "tty"]
    output = idle.laptop.run("script", "-qec", " ".join(words), "/dev/null", environment=environment(), timeout=30)
    assert "/dev/pts/0" in output.stdout
    assert output.code == 0


def test_signal_ends_the_command_over_there(docker: DockerEngine, start: Start) -> None:
    """docker itself leaves it: the client that is ended says nothing to its command in the container."""
    bridge = start("docker://box", command=("sh", "-c", "trap '' HUP; sleep 4321 & sleep 4321"))
    wait_until(lambda: docker.processes("box").count("sleep 4321") == 2, "the command", 20, 0.1)
    assert bridge.stop() == 143, bridge.said
    assert docker.processes("box") == ["sleep infinity"]


def test_a_client_that_dies_is_started_anew(idle: World, docker: DockerEngine, start: Start) -> None:
    """The bridge outlives its `docker exec`; in the container flows, routes and names stay as they are."""
    bridge = start("docker://box").ready()
    (pid,) = (pid for pid, words in idle.laptop.processes().items() if words.endswith("exec -i box sh"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: bridge.event("resumed"), "the next one", 30, 0.05)
    assert docker.inside("box", "curl", "-sS", "-m5", f"http://{CORP[4]}/").stdout == PAGE
    assert bridge.stop() == 0
    wait_until(lambda: docker.processes("box") == ["sleep infinity"], "the end of both agents", 10, 0.1)


def test_a_stopped_container_is_a_loss(docker: DockerEngine, container: Callable[..., str], start: Start) -> None:
    name = container(*TUN)
    bridge = start(f"docker://{name}", "--grace", "0").ready()
    docker.client("kill", name).check()
    why = failed(bridge, 3)
    assert why["what"] == f"The connection to docker://{name} is lost."
    assert f"The container {name} is not reached any more." in why["why"]


@pytest.mark.parametrize("debian", [False, True])
def test_what_cannot_be_entered(
    docker: DockerEngine, container: Callable[..., str], start: Start, *, debian: bool
) -> None:
    """The real engine's words, by this machine's client and by Debian's, which is older."""
    link = docker.bin / "docker"
    real = link.readlink()
    link.unlink()
    link.symlink_to(docker.debian_client if debian else real)
    try:
        still = container()
        docker.client("kill", still)
        paused = container()
        docker.client("pause", paused)
        distroless = container("--volume=/usr/bin/sleep:/sleep:ro", "--env=PATH=/", program=("/sleep", "infinity"))
        for target, status, what, todo in (
            ("docker://nosuch", 3, "There is no container nosuch.", "docker ps"),
            (f"docker://{still}", 3, f"The container {still} is not running.", f"docker start {still}"),
            (f"docker://{paused}", 3, f"The container {paused} is paused.", f"docker unpause {paused}"),
            (f"docker://{distroless}", 5, f"The container {distroless} has no shell.", "Distroless"),
            ("docker://nosuchuser@box", 5, "The container box knows no user nosuchuser.", "docker://root@box"),
        ):
            found = failed(start(target), status)
            assert found["what"] == what
            assert todo in found["todo"]
    finally:
        docker.client("unpause", paused)
        link.unlink()
        link.symlink_to(real)


def test_an_engine_that_does_not_run(idle: World, docker: DockerEngine, start: Start) -> None:
    idle.laptop.environment["DOCKER_HOST"] = "unix:///nowhere"
    found = failed(start("docker://box"), 3)
    assert found["what"] == "The Docker engine is not reachable."


def test_what_the_container_was_not_granted(docker: DockerEngine, container: Callable[..., str], start: Start) -> None:
    name = container("--cap-drop=ALL")
    found = failed(start(f"docker://{name}"), 5)
    assert "docker run --cap-add=NET_ADMIN --cap-add=NET_RAW --device=/dev/net/tun" in found["todo"]
    # the flags are the mend
    name = container("--cap-drop=ALL", "--cap-add=NET_ADMIN", "--cap-add=NET_RAW", "--device=/dev/net/tun")
    start(f"docker://{name}").ready().stop()


def test_a_user_who_is_not_root(docker: DockerEngine, container: Callable[..., str], start: Start) -> None:
    name = container(*TUN, "--user=65534")
    found = failed(start(f"docker://{name}"), 5)
    assert found["what"] == "The agent needs root on the target."
    assert f"docker://root@{name}" in found["todo"]
    # and that is the mend
    start(f"docker://root@{name}").ready()
    assert docker.inside(name, "curl", "-sS", "-m5", f"http://{CORP[4]}/").stdout == PAGE


def test_under_sudo_docker_is_the_callers(idle: World, docker: DockerEngine, start: Start) -> None:
    """Root may open the engine's socket, the person who called sudo may not."""
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo and a Python that ordinary users may run")
    found = failed(start("docker://box", prefix=as_person(idle.laptop, python, sudo=True)), 4)
    assert found["what"] == "Docker's socket may not be opened."
    assert "also under sudo" in found["why"]
    assert "usermod -aG docker me" in found["todo"]
