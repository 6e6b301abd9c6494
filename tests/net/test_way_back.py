"""The way back: real programs on the laptop reach what listens in the codespace, by connect, forward, socks and ssh."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, Output, Program, World
from tests.world.addresses import CODESPACE
from tests.world.bridge import NETBRIDGE, as_person, environment, python_for_everybody
from tests.world.machine import wait_until
from tests.world.privileges import Privileges
from tests.world.servers import make_big_file
from tests.world.snapshot import Snapshot

from .conftest import TARGET, Through
from .test_resume import break_it, resumed
from .test_traces import agents

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
BIG = 40_000_000


def netbridge(laptop: Machine, *words: str, stdin: bytes = b"", timeout: float = 30.0) -> Output:
    return laptop.run(*NETBRIDGE, *words, stdin=stdin, timeout=timeout, environment=environment())


def connects(through: Through, host: str, port: int) -> bool:
    try:
        through.connect(host, port, 1.0).close()
    except OSError:
        return False
    return True


@pytest.fixture
def program(world: World) -> Iterator[Callable[..., Program]]:
    """Start programs that end with the test."""
    started: list[Program] = []

    def start(where: Through | Machine, *argv: str | Path, **more: object) -> Program:
        begun = where.start(*argv, **more)  # type: ignore[arg-type]
        started.append(begun)
        return begun

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def web(through: Through, program: Callable[..., Program], world: World) -> tuple[int, Path]:
    """A web server in the codespace that only its own loopback reaches: port, folder."""
    folder = world.folder / "web-there"
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text("<h1>there</h1>\n")
    server = ("python3", "-m", "http.server", "8077", "--bind", "127.0.0.1", "--directory", folder)
    program(through, *server, log="web.log")
    wait_until(lambda: connects(through, "127.0.0.1", 8077), "the web server over there")
    return 8077, folder


@pytest.fixture
def local(world: World, program: Callable[..., Program]) -> Callable[..., str]:
    """Start `netbridge forward …` or `netbridge socks …` on the laptop; what it said once it listens."""

    def start(*words: str) -> str:
        said = world.folder / "listener.log"
        with open(said, "wb") as sink:
            program(world.laptop, *NETBRIDGE, *words, stderr=sink, environment=environment())
        return wait_until(lambda: said.read_text() if "\n" in said.read_text() else "", f"netbridge {words[0]}")

    return start


def test_connect_reaches_what_listens_on_loopback_only(through: Through, world: World, web: tuple[int, Path]) -> None:
    request = b"GET / HTTP/1.0\r\n\r\n"
    for host in ("localhost", "127.0.0.1"):
        output = netbridge(world.laptop, "connect", host, str(web[0]), stdin=request).check()
        assert output.stdout.endswith("\r\n\r\n<h1>there</h1>\n")


def test_connect_by_ipv6(through: Through, world: World, program: Callable[..., Program]) -> None:
    nc = program(through, "nc", "-6", "-l", "::1", "8078", stdin=-3, log="nc.log")
    wait_until(lambda: "8078" in through.run("ss", "-ltn").stdout, "nc")
    netbridge(world.laptop, "connect", "::1", "8078", stdin=b"by six\n").check()
    assert nc.wait(10) == 0


def test_errors_are_those_over_there(through: Through, world: World) -> None:
    for place, why in {
        ("localhost", "8099"): "Connection refused.",
        ("nowhere.invalid", "80"): "Name or service not known.",
        ("203.0.113.7", "80"): "Network is unreachable." if through.transport == "sandbox" else "No route to host.",
    }.items():
        if place[0] == "203.0.113.7" and through.transport != "sandbox":
            through.run("ip", "route", "add", "unreachable", "203.0.113.7").check()
        output = netbridge(world.laptop, "connect", *place)
        assert (output.code, output.stdout) == (1, "")
        assert why in output.stderr, output.stderr
        assert "Traceback" not in output.stderr
    if through.transport != "sandbox":
        through.run("ip", "route", "del", "unreachable", "203.0.113.7").check()


SWAPS_FILES = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
def send():
    with open(sys.argv[2], "rb") as file:
        connection.sendfile(file)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
with open(sys.argv[3], "wb") as file:
    while data := connection.recv(65536):
        file.write(data)
"""
"""nc ends as soon as the other side has sent all, whatever it still has to send itself."""


def test_a_big_file_both_ways_at_once_and_half_closes(
    through: Through, world: World, program: Callable[..., Program]
) -> None:
    here, got, there = (world.folder / name for name in ("here.bin", "got.bin", "there.bin"))
    make_big_file(here, BIG)
    server = program(through, "python3", "-c", SWAPS_FILES, "8079", here, there, log="swap.log")
    wait_until(lambda: "8079" in through.run("ss", "-ltn").stdout, "the server")
    words = shlex.join([*NETBRIDGE, "connect", "localhost", "8079"])
    world.laptop.run("sh", "-c", f"{words} <{here} >{got}", environment=environment(), timeout=60).check()
    assert server.wait(10) == 0
    wanted = hashlib.sha256(here.read_bytes()).digest()
    assert hashlib.sha256(got.read_bytes()).digest() == wanted
    assert hashlib.sha256(there.read_bytes()).digest() == wanted


ANSWERS_AT_THE_END = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
total = 0
while data := connection.recv(65536):
    total += len(data)
connection.sendall(b"got %d\\n" % total)
"""


def test_an_answer_that_comes_after_our_end(through: Through, world: World, program: Callable[..., Program]) -> None:
    program(through, "python3", "-c", ANSWERS_AT_THE_END, "8080", log="server.log")
    wait_until(lambda: "8080" in through.run("ss", "-ltn").stdout, "the server")
    output = netbridge(world.laptop, "connect", "localhost", "8080", stdin=b"x" * 3_000_000).check()
    assert output.stdout == "got 3000000\n"


RESETS = """
import socket, struct, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
connection.sendall(b"half of it")
connection.recv(1)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""


def test_what_was_cut_off_is_no_success(through: Through, world: World, program: Callable[..., Program]) -> None:
    program(through, "python3", "-c", RESETS, "8081", log="server.log")
    wait_until(lambda: "8081" in through.run("ss", "-ltn").stdout, "the server")
    output = netbridge(world.laptop, "connect", "localhost", "8081", stdin=b"x")
    assert output.code == 1
    assert "was cut off. Connection reset by peer." in output.stderr


WAITS = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
connection.sendall(b"hello")
try:
    print("end" if not connection.recv(1) else "data", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""


def test_a_client_that_is_killed_is_seen_over_there(
    through: Through, world: World, program: Callable[..., Program]
) -> None:
    said = world.folder / "waits.log"
    with open(said, "wb") as sink:
        program(through, "python3", "-c", WAITS, "8082", stdout=sink, log="server.log")
    wait_until(lambda: "8082" in through.run("ss", "-ltn").stdout, "the server")
    heard = world.folder / "heard.log"
    with open(heard, "wb") as sink:
        client = program(
            world.laptop, *NETBRIDGE, "connect", "localhost", "8082", stdin=-1, stdout=sink, environment=environment()
        )
    wait_until(lambda: heard.read_text() == "hello", "the greeting")
    client.signal(signal.SIGKILL)
    wait_until(lambda: said.read_text() == "reset\n", "the reset over there")


def test_many_at_once_by_forward(
    through: Through, world: World, web: tuple[int, Path], local: Callable[..., str]
) -> None:
    make_big_file(web[1] / "big.bin", BIG // 4)
    said = local("forward", f"18077:localhost:{web[0]}")
    assert said.startswith("127.0.0.1:18077 leads to localhost port 8077 over there\n")
    fetch = "curl -sS -m60 http://localhost:18077/big.bin | sha256sum"
    lines = world.laptop.shell(f"for n in 1 2 3 4 5 6 7 8; do {{ {fetch}; }} & done; wait", timeout=90).check()
    wanted = hashlib.sha256((web[1] / "big.bin").read_bytes()).hexdigest()
    assert [line.split()[0] for line in lines.stdout.splitlines()] == [wanted] * 8


def test_forward_to_a_closed_port_resets(through: Through, world: World, local: Callable[..., str]) -> None:
    local("forward", "18098:localhost:8098")
    output = world.laptop.run("curl", "-sS", "-m10", "http://127.0.0.1:18098/")
    assert output.code == 56, output.stderr  # reset by peer
    said = (world.folder / "listener.log").read_text()
    assert "localhost port 8098 was not reached from the codespace. Connection refused." in said


def test_redis_by_forward(
    through: Through, world: World, program: Callable[..., Program], local: Callable[..., str]
) -> None:
    program(through, "redis-server", "--port", "6399", "--bind", "127.0.0.1", "--save", "", log="redis-there.log")
    wait_until(lambda: connects(through, "127.0.0.1", 6399), "redis over there")
    local("forward", "16399:localhost:6399")
    redis = ("redis-cli", "-p", "16399")
    assert world.laptop.run(*redis, "set", "key", through.transport).check().stdout == "OK\n"
    assert through.run("redis-cli", "-p", "6399", "get", "key").check().stdout == f"{through.transport}\n"


def test_curl_by_socks(through: Through, world: World, web: tuple[int, Path], local: Callable[..., str]) -> None:
    local("socks", "--listen", "127.0.0.1:18080")
    for option in ("--socks5-hostname", "--socks5"):
        for host in ("localhost", "127.0.0.1"):
            url = f"http://{host}:{web[0]}/"
            words = ("curl", "-sS", "-4", "-m10", "--noproxy", "", option, "127.0.0.1:18080", url)
            assert world.laptop.run(*words).check().stdout == "<h1>there</h1>\n"
    refused = ("curl", "-sS", "-m10", "--noproxy", "", "--socks5-hostname", "127.0.0.1:18080")
    assert world.laptop.run(*refused, "http://localhost:8097/").code == 97
    assert "(5)" in world.laptop.run(*refused, "http://localhost:8097/").stderr  # connection refused
    assert "(4)" in world.laptop.run(*refused, "http://nowhere.invalid/").stderr  # host unreachable


def test_a_name_is_resolved_over_there(
    start: Start, world: World, program: Callable[..., Program], local: Callable[..., str]
) -> None:
    """By its hosts file, and to a neighbour behind docker0 that only the codespace reaches."""
    start().ready()
    codespace = world.codespace
    codespace.ip("link add box0 type veth peer name box1", "link set box0 master docker0 up")
    try:
        inside = program(codespace, "unshare", "--net", "sleep", "600", log="box.log")
        pid = inside.pid
        outside = os.readlink(f"/proc/{codespace.init}/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{pid}/ns/net") != outside, "the box")
        codespace.run("nsenter", f"--net=/proc/{own_pid(pid)}/ns/net", "true").check()
        codespace.ip(f"link set box1 netns {own_pid(pid)}")
        up = "ip addr add 172.17.0.9/16 dev box1; ip link set box1 up; ip link set lo up"
        codespace.run("sh", "-c", up, enter=pid).check()
        program(codespace, "python3", "-m", "http.server", "80", "--bind", "172.17.0.9", log="box-web.log", enter=pid)
        hosts = codespace.folder / "etc/hosts"
        before = hosts.read_text()
        hosts.write_text(f"{before}172.17.0.9 box.only-there\n")
        local("socks", "--listen", "127.0.0.1:18080")
        words = ("curl", "-sS", "-m10", "-o/dev/null", "-w%{http_code}", "--proxy", "socks5h://127.0.0.1:18080")
        wait_until(lambda: codespace.answers("172.17.0.9", 80), "the box's web server")
        assert world.laptop.run(*words, "http://box.only-there/").check().stdout == "200"
        hosts.write_text(before)
    finally:
        codespace.run("ip", "link", "del", "box0")


def own_pid(pid: int) -> int:
    """The process id that a process has in the innermost namespace."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise AssertionError(pid)


def test_without_a_tun_it_works_as_well(start: Start, world: World, program: Callable[..., Program]) -> None:
    start(TARGET, "--capture", "packet").ready()
    program(world.codespace, "python3", "-c", ANSWERS_AT_THE_END, "8083", log="server.log")
    wait_until(lambda: world.codespace.listens(8083), "the server")
    output = netbridge(world.laptop, "connect", "localhost", "8083", stdin=b"x" * 300_000).check()
    assert output.stdout == "got 300000\n"


def test_behind_a_firewall_that_lets_nothing_in(start: Start, world: World, program: Callable[..., Program]) -> None:
    """The agent dials, so it needs no more than the bridge itself does."""
    bridge = start().ready()
    tun = str(bridge.status()["agent"]["tun"])
    program(world.codespace, "python3", "-c", ANSWERS_AT_THE_END, "8084", log="server.log")
    wait_until(lambda: world.codespace.listens(8084), "the server")
    rule = ("INPUT", "-i", tun, "-m", "state", "--state", "NEW", "-j", "DROP")
    if world.codespace.run("iptables", "-A", *rule).code:
        pytest.skip("iptables does not work here")
    try:
        assert netbridge(world.laptop, "connect", "localhost", "8084", stdin=b"xyz").check().stdout == "got 3\n"
    finally:
        world.codespace.run("iptables", "-D", *rule).check()


def test_the_end_of_the_bridge_is_no_end_in_order(start: Start, world: World, program: Callable[..., Program]) -> None:
    bridge = start().ready()
    program(world.codespace, "python3", "-c", WAITS, "8085", log="server.log")
    wait_until(lambda: world.codespace.listens(8085), "the server")
    heard, told = world.folder / "heard.log", world.folder / "told.log"
    with open(heard, "wb") as out, open(told, "wb") as err:
        client = program(
            world.laptop, *NETBRIDGE, "connect", "localhost", "8085",
            stdin=-1, stdout=out, stderr=err, environment=environment(),
        )  # fmt: skip
    wait_until(lambda: heard.read_text() == "hello", "the greeting")
    assert bridge.stop() == 0
    assert client.wait(10) == 1
    assert "was cut off. The bridge ended." in told.read_text()


@pytest.mark.timeout(120)
def test_a_connection_that_breaks_is_a_pause(start: Start, world: World, program: Callable[..., Program]) -> None:
    """What is open goes on, and what is asked for meanwhile waits."""
    bridge = start().ready()
    here, got, there = (world.folder / name for name in ("here.bin", "got.bin", "there.bin"))
    make_big_file(here, BIG)
    for port in ("8086", "8087"):
        into = there.with_suffix(f".{port}")
        program(world.codespace, "python3", "-c", SWAPS_FILES, port, here, into, log="swap.log")
    wait_until(lambda: world.codespace.listens(8086) and world.codespace.listens(8087), "the servers")
    words = shlex.join([*NETBRIDGE, "connect", "localhost", "8086"])
    slow = f"({{ head -c 1000000; sleep 3; cat; }} <{here}) | {words} >{got}"  # still under way when it breaks
    client = program(world.laptop, "sh", "-c", slow, environment=environment())
    wait_until(lambda: got.exists() and got.stat().st_size > 0, "the first bytes")
    break_it(world)
    output = netbridge(world.laptop, "connect", "localhost", "8087", timeout=60).check()
    assert len(output.stdout) > 0
    assert client.wait(60) == 0
    wanted = hashlib.sha256(here.read_bytes()).digest()
    assert hashlib.sha256(got.read_bytes()).digest() == wanted
    wait_until(lambda: there.with_suffix(".8086").stat().st_size == BIG, "the other file")
    assert hashlib.sha256(there.with_suffix(".8086").read_bytes()).digest() == wanted
    assert resumed(bridge) == 1


def test_strangers_over_there_get_nothing(through: Through, world: World) -> None:
    """The service answers who knows the secret, and nobody else: not the codespace's other programs."""
    assert through.bridge
    network = through.bridge.status()["network"]
    before = through.bridge.status()["back"]["strangers"]
    for line in (b'{"secret": "00000000000000000000000000000000", "for": "agent"}\n', b"SSH-2.0-x\r\n", b"x" * 5000):
        with through.connect(network["gateways"][0], 6272) as connection:
            connection.sendall(line)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                pass
    wait_until(lambda: through.bridge and through.bridge.status()["back"]["strangers"] == before + 3, "three strangers")


# --- ssh ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sshd_there(world: World, program: Callable[..., Program]) -> int:
    """An SSH server on the codespace's loopback, as a dev container's is: its port."""
    config = world.codespace.folder / "sshd/config"
    only_there = world.codespace.folder / "sshd/only-there"
    lines = [line for line in config.read_text().splitlines() if not line.startswith(("Port", "ListenAddress"))]
    only_there.write_text("\n".join(["Port 2022", "ListenAddress 127.0.0.1", *lines, ""]))
    program(world.codespace, "/usr/sbin/sshd", "-D", "-e", "-f", only_there, log="sshd-there.log")
    wait_until(lambda: world.codespace.listens(2022), "sshd over there")
    return 2022


def test_ssh_by_name(start: Start, world: World, sshd_there: int) -> None:
    laptop = world.laptop
    config = laptop.folder / "home/.ssh/config"
    before, mode = config.read_text(), config.stat().st_mode
    try:
        words = ("ssh-config", "install", TARGET, "--name", "space", "--port", str(sshd_there))
        netbridge(laptop, *words).check()
        installed = config.read_text()
        netbridge(laptop, *words).check()
        assert (config.read_text(), config.stat().st_mode) == (installed, mode)
        # The block runs this very interpreter, which finds the sources by PYTHONPATH only here.
        ssh = ("ssh", "-o", "BatchMode=yes", "space.netbridge")
        output = laptop.run(*ssh, "true", environment=environment())
        assert f"No bridge to {TARGET} is running." in output.stderr
        start().ready()
        output = laptop.run(*ssh, "hostname; wc -c", stdin=b"x" * 2_000_000, environment=environment()).check()
        assert output.stdout.split() == ["codespace", "2000000"]
    finally:
        netbridge(laptop, "ssh-config", "uninstall", "space").check()
    assert (config.read_text(), config.stat().st_mode) == (before, mode)
    assert not (config.parent / "netbridge_config").exists()


# --- the ssh-agent --------------------------------------------------------------------------------------------------


@pytest.fixture
def ssh_agent(world: World, program: Callable[..., Program]) -> Iterator[str]:
    """A real ssh-agent on the laptop that holds the key which the codespace's sshd accepts; its fingerprint."""
    laptop = world.laptop
    path = laptop.folder / "agent.sock"
    program(laptop, "ssh-agent", "-D", "-a", path, log="ssh-agent.log")
    laptop.environment["SSH_AUTH_SOCK"] = str(path)
    try:
        wait_until(path.exists, "ssh-agent")
        laptop.run("ssh-add", "-q", world.key).check()
        yield laptop.run("ssh-add", "-l").check().stdout.split()[1]
    finally:
        del laptop.environment["SSH_AUTH_SOCK"]
        path.unlink(missing_ok=True)


ROOTS = "/tmp/netbridge-ssh-0/agent.sock"


def listed(machine: Machine, path: str, enter: int | None = None) -> Output:
    return machine.shell(f"SSH_AUTH_SOCK={path} ssh-add -l", enter=enter)


def test_the_agent_is_found_and_signs(start: Start, world: World, ssh_agent: str) -> None:
    bridge = start(TARGET, "--forward-agent").ready()
    told = bridge.event("ssh_agent")
    assert told is not None
    assert told["path"] == ROOTS == bridge.status()["agent"]["ssh_agent"]
    codespace = world.codespace
    for _ in range(3):
        assert ssh_agent in listed(codespace, ROOTS).check().stdout
    ssh = "ssh -T -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentityFile=none"
    output = codespace.shell(f"SSH_AUTH_SOCK={ROOTS} {ssh} -p 2222 root@{CODESPACE[4]} echo signed")
    assert output.check().stdout == "signed\n"
    assert bridge.status()["back"]["agent"] == 4
    assert codespace.shell(f"stat -c '%a %u' {ROOTS} {os.path.dirname(ROOTS)}").check().stdout == "600 0\n700 0\n"
    assert bridge.stop() == 0
    assert codespace.run("test", "-e", os.path.dirname(ROOTS)).code == 1


def test_command_finds_it(start: Start, world: World, ssh_agent: str) -> None:
    bridge = start(TARGET, "--forward-agent", command=("ssh-add", "-l"))
    assert bridge.ended() == 0
    assert ssh_agent in (world.laptop.folder / "netbridge.out").read_text()


def test_it_belongs_to_the_user_who_logged_in(start: Start, world: World, ssh_agent: str) -> None:
    before = Snapshot.of(world.codespace)
    bridge = start(TARGET.replace("root@", "codespace@"), "--forward-agent").ready()
    codespace, path = world.codespace, "/tmp/netbridge-ssh-54321/agent.sock"
    (holder,) = (pid for pid in agents(world, before) if Privileges.of(pid).name == "netbridge-agent")
    assert Privileges.of(holder).users[:3] == (0, 0, 54321)  # the third is the way to that user and back
    assert not Privileges.of(holder).permitted & {"SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"}
    assert codespace.shell(f"stat -c '%a %u %g' {path}").check().stdout == "600 54321 54321\n"
    as_user = ("setpriv", "--clear-groups", "--reuid=54321", "--regid=54321")
    output = codespace.run(*as_user, "env", f"SSH_AUTH_SOCK={path}", "ssh-add", "-l").check()
    assert ssh_agent in output.stdout
    as_other = ("setpriv", "--clear-groups", "--reuid=54322", "--regid=54322")
    output = codespace.run(*as_other, "env", f"SSH_AUTH_SOCK={path}", "ssh-add", "-l")
    assert (output.code, ssh_agent in output.stdout) == (2, False)
    assert bridge.stop() == 0
    assert codespace.run("test", "-e", os.path.dirname(path)).code == 1


def test_the_path_stays_and_leftovers_are_healed(start: Start, world: World, ssh_agent: str) -> None:
    before = Snapshot.of(world.codespace)
    bridge = start(TARGET, "--forward-agent").ready()
    for pid in agents(world, before):
        os.kill(pid, signal.SIGKILL)
    bridge.ended()
    assert world.codespace.run("test", "-S", ROOTS).code == 0
    second = start(TARGET, "--forward-agent").ready()
    told = second.event("ssh_agent")
    assert told is not None
    assert told["path"] == ROOTS
    assert ssh_agent in listed(world.codespace, ROOTS).check().stdout


def test_the_agent_in_the_sandbox(start: Start, world: World, ssh_agent: str) -> None:
    bridge = start("sandbox", "--forward-agent").ready()
    told = bridge.event("ssh_agent")
    assert told is not None
    assert ssh_agent in listed(world.laptop, told["path"], bridge.inside()).check().stdout


def test_without_an_agent_here_it_is_a_wrong_use(idle: World) -> None:
    output = netbridge(idle.laptop, "up", TARGET, "--forward-agent")
    assert output.code == 2
    assert "SSH_AUTH_SOCK is not set here." in output.stderr


def test_not_asked_for_is_not_there(through: Through) -> None:
    assert through.run("sh", "-c", "ls -d /tmp/netbridge-ssh-* 2>/dev/null").stdout == ""


def test_under_sudo_it_is_the_callers(start: Start, world: World, program: Callable[..., Program]) -> None:
    """`sudo netbridge up --forward-agent` takes the caller's agent, and the caller needs no sudo for `connect`."""
    python = python_for_everybody()
    if not python or not shutil.which("sudo"):
        pytest.skip("needs sudo, and a Python that ordinary users may run")
    laptop, path = world.laptop, world.laptop.folder / "me/agent.sock"
    me = as_person(laptop, python)
    person = me[: me.index("env")]
    program(laptop, *person, "ssh-agent", "-D", "-a", path, log="ssh-agent-me.log")
    laptop.environment["SSH_AUTH_SOCK"] = str(path)
    try:
        wait_until(path.exists, "ssh-agent")
        laptop.run(*person, "ssh-add", "-q", laptop.folder / "me/.ssh/id_ed25519").check()
        key = laptop.run("ssh-add", "-l").check().stdout.split()[1]
        start("ssh://mine", "--forward-agent", prefix=as_person(laptop, python, sudo=True)).ready()
        assert key in listed(world.codespace, ROOTS).check().stdout
        program(world.codespace, "python3", "-c", ANSWERS_AT_THE_END, "8088", log="server.log")
        wait_until(lambda: world.codespace.listens(8088), "the server")
        assert laptop.run(*me, "connect", "localhost", "8088", stdin=b"four").check().stdout == "got 4\n"
    finally:
        del laptop.environment["SSH_AUTH_SOCK"]


# --- a UDP client of SOCKS --------------------------------------------------------------------------------------------


def test_udp_by_socks_is_told_to_be_unsupported(through: Through, world: World, local: Callable[..., str]) -> None:
    local("socks", "--listen", "127.0.0.1:18081")
    with world.laptop.connect("127.0.0.1", 18081) as connection:
        connection.sendall(b"\x05\x01\x00")
        assert connection.recv(2, socket.MSG_WAITALL) == b"\x05\x00"
        connection.sendall(b"\x05\x03\x00\x01" + bytes(4) + struct.pack("!H", 53))
        assert connection.recv(10, socket.MSG_WAITALL) == b"\x05\x07\x00\x01" + bytes(6)
        assert connection.recv(1) == b""
