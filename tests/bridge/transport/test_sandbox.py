"""The sandbox: a network of its own, a resolv.conf of its own, descriptors handed over, and nothing left behind."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from netbridge.bridge.errors import TargetLacksError
from netbridge.bridge.transport import make_transport, sandbox
from netbridge.bridge.transport.base import Channel
from netbridge.bridge.transport.sandbox import SandboxTransport

from .listener import Listener, echo, gone

ROOT = Path(__file__).parents[3]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")


@functools.cache
def _why_not(*before: str) -> str:
    """Why no sandbox can be made here; empty when one can."""
    if shutil.which("unshare") is None:
        return "unshare is missing: install util-linux"
    command = [*before, "unshare", "--net", "--mount", "--pid", "--fork"]
    if before or os.geteuid():
        command += ["--user", "--map-root-user"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() or "unshare fails" if done.returncode else ""


@functools.cache
def nobodys_python() -> str | None:
    """An interpreter that an unprivileged user can run (one in root's home is none)."""
    for python in (sys.executable, "/usr/bin/python3"):
        ask = [*NOBODY, "/bin/sh", "-c", 'exec "$0" -I -c "import sys; sys.exit(sys.version_info < (3, 11))"', python]
        if subprocess.run(ask, capture_output=True, check=False).returncode == 0:
            return python
    return None


needs_sandbox = pytest.mark.skipif(bool(_why_not()), reason=f"no sandbox here: {_why_not()}")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run as root")


async def start(lines: list[str] | None = None) -> SandboxTransport:
    log = (lambda _line: None) if lines is None else lines.append
    transport = make_transport("sandbox", ssh=None, log=log, interactive=False)
    assert isinstance(transport, SandboxTransport)
    assert transport.passes_descriptors
    await transport.connect()
    return transport


async def output(transport: SandboxTransport, command: str) -> str:
    channel = await transport.open(command)
    listener = Listener(channel)
    await listener.lost
    await channel.wait_closed()
    return bytes(listener.data).decode()


@needs_sandbox
async def test_bytes_pass() -> None:
    transport = await start()
    channel: Channel = await transport.open("exec cat")
    await echo(channel, 50_000_000)
    channel.close()
    assert await channel.wait_closed() == 0
    await transport.close()


@needs_sandbox
async def test_it_is_another_network_with_another_resolver() -> None:
    before = Path("/etc/resolv.conf").read_bytes() if Path("/etc/resolv.conf").exists() else None
    mounts = our_mounts()
    transport = await start()
    seen = await output(transport, "readlink /proc/self/ns/net; cat /etc/resolv.conf; ls /sys/class/net; id -u")
    network, *resolver, interface, uid = seen.splitlines()
    assert network != os.readlink("/proc/self/ns/net")
    assert resolver == ["# The netbridge sandbox: no name server until a bridge is up."]
    assert interface == "lo"
    assert uid == "0"
    # It can be written in place, as the agent does, and everyone in the sandbox sees it; nobody outside does.
    await output(transport, "echo nameserver 127.1.2.3 >/etc/resolv.conf")
    assert await output(transport, "cat /etc/resolv.conf") == "nameserver 127.1.2.3\n"
    if before is not None:
        assert Path("/etc/resolv.conf").read_bytes() == before
    assert our_mounts() == mounts
    await transport.close()


@needs_sandbox
async def test_descriptors_of_the_sandboxes_network_come_out() -> None:
    transport = await start()
    sender = (
        "import array, os, socket; s = socket.socket(fileno=0); u = socket.socket();"
        "u.bind(('127.0.0.1', 0)); u.listen();"
        "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [u.fileno()]))])"
    )
    python = nobodys_python() or sys.executable
    channel = await transport.open(f'{python} -I -c "{sender}"')
    listener = Listener(channel)
    await listener.until(1)
    (descriptor,) = channel.received_descriptors()
    # Its port is free out here: it lives in another network.
    import socket

    with socket.socket(fileno=descriptor) as inside, socket.socket() as outside:
        outside.bind(("127.0.0.1", inside.getsockname()[1]))
    await listener.lost
    await transport.close()


@needs_sandbox
async def test_run_gives_status_and_place(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    transport = await start()
    assert await transport.run(["sh", "-c", "pwd; echo $NETBRIDGE; readlink /proc/self/ns/net; exit 7"]) == 7
    assert await transport.run(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM
    assert await transport.run(["no-such-program-here"]) == 127
    place, hint, network = capfd.readouterr().out.splitlines()
    assert place == str(tmp_path)
    assert hint == "sandbox"
    assert network != os.readlink("/proc/self/ns/net")
    await transport.close()


@needs_sandbox
@needs_root
async def test_the_command_is_the_callers_under_sudo(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwuid(65534)
    for name, value in (("SUDO_UID", "65534"), ("SUDO_GID", "65534"), ("SUDO_USER", nobody.pw_name)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "executable", nobodys_python() or sys.executable)
    transport = await start()
    assert await transport.run(["sh", "-c", "id -u; id -g; echo $USER $SUDO_UID"]) == 0
    assert capfd.readouterr().out.splitlines() == ["65534", "65534", nobody.pw_name]
    assert (await output(transport, "id -u")) == "0\n"  # the agent stays root
    await transport.close()


@needs_sandbox
async def test_everything_in_it_ends_with_it() -> None:
    transport = await start()
    # A daemon in a session of its own, with its streams elsewhere: nothing but the process namespace holds it.
    channel = await transport.open("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo ok; cat")
    listener = Listener(channel)
    await listener.until(3)
    network = _network(transport._pid)
    inside = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _network(int(pid)) == network]
    assert len(inside) >= 3
    await transport.close()
    for pid in inside:
        assert await gone(pid)
    await channel.wait_closed()


def _network(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return f"none of {pid}"


DRIVER = """
import asyncio, sys
from netbridge.bridge.transport import make_transport
async def main():
    transport = make_transport("sandbox", ssh=None, log=lambda line: print(line, file=sys.stderr), interactive=False)
    try:
        await transport.connect()
        print(transport._pid, flush=True)
        if sys.argv[1:]:
            return await transport.run(sys.argv[1:])
        await asyncio.sleep(1000)
    finally:
        await transport.close()
sys.exit(asyncio.run(main()))
"""


@functools.cache
def source_for_everybody() -> Path:
    """The folder to import netbridge from; a copy when ordinary users cannot come to where the project stands."""
    source = ROOT / "src"
    if subprocess.run([*NOBODY, "test", "-r", str(source)], check=False).returncode == 0:
        return source
    folder = tempfile.TemporaryDirectory(prefix="netbridge-tests-")
    atexit.register(folder.cleanup)
    os.chmod(folder.name, 0o755)
    shutil.copytree(source, Path(folder.name) / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(folder.name) / "src"


def driver(python: str, *argv: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    script = f"import sys; sys.path.insert(0, {str(source_for_everybody())!r})\n{DRIVER}"
    # Through sh: setpriv still holds root's capabilities when it looks for a program.
    command = [*before, "/bin/sh", "-c", 'exec "$0" "$@"', python, "-c", script, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def our_mounts() -> list[str]:
    """Mounts of the machine itself that the sandbox's script makes in its own namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " netbridge " in line or "/etc/resolv.conf" in line]


@needs_sandbox
@pytest.mark.parametrize("argv", [(), ("sh", "-c", "sleep 1000 & exec sleep 1000")])
async def test_nothing_is_left_behind_after_kill_9(argv: tuple[str, ...]) -> None:
    mounts = our_mounts()
    process = driver(sys.executable, *argv)
    assert process.stdout is not None
    holder = int(await asyncio.get_running_loop().run_in_executor(None, process.stdout.readline))
    network = _network(holder)
    inside: list[int] = []
    while len(inside) < (3 if argv else 1):
        await asyncio.sleep(0.05)
        inside = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _network(int(pid)) == network]
    process.kill()
    process.communicate()
    for pid in inside:
        assert await gone(pid)
    assert our_mounts() == mounts
    assert not [name for name in os.listdir("/tmp") if name in ("upper", "work", "resolv.conf")]


@needs_root
async def test_an_ordinary_user_may_too() -> None:
    python = nobodys_python()
    if python is None:
        pytest.skip("no Python 3.11 that an ordinary user can run")
    if why := _why_not(*NOBODY):
        pytest.skip(f"the kernel gives ordinary users no namespaces: {why}")
    process = driver(
        python,
        "sh",
        "-c",
        "id -u; cat /etc/resolv.conf; ls /sys/class/net; readlink /proc/self/ns/net; exit 9",
        before=NOBODY,
    )
    out, err = await asyncio.get_running_loop().run_in_executor(None, process.communicate)
    assert process.returncode == 9, err
    _holder, uid, resolver, interface, network = out.splitlines()
    assert uid == "0"
    assert resolver.startswith("# The netbridge sandbox")
    assert interface == "lo"
    assert network != os.readlink("/proc/self/ns/net")


async def test_a_kernel_that_refuses_is_told_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "unprivileged_userns_clone"
    switch.write_text("0\n")
    monkeypatch.setattr(sandbox, "_SWITCHES", ((str(switch), "0", "kernel.unprivileged_userns_clone=1"),))
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("SUDO_UID", raising=False)
    with pytest.raises(TargetLacksError) as caught:
        await start()
    if os.geteuid() == 0:
        assert "Operation not permitted" in caught.value.why
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TargetLacksError, match=r"sudo sysctl -w kernel\.unprivileged_userns_clone=1"):
        await start()


async def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetLacksError, match="util-linux"):
        await start()


RESOLVERS = {
    "a file": "echo nameserver 192.0.2.1 >/etc/resolv.conf",
    "a link": "mkdir -p /etc/other; echo nameserver 192.0.2.1 >/etc/other/r; ln -s other/r /etc/resolv.conf",
    "a link to nowhere": "ln -s ../run/no/such/folder/resolv.conf /etc/resolv.conf",
    "systemd-resolved's": "mkdir -p /run/systemd/resolve;"
    " echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf;"
    " touch /run/systemd/resolve/io.systemd.Resolve;"
    " ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
    "missing": "true",
}


@needs_sandbox
@needs_root
@pytest.mark.parametrize("kind", RESOLVERS)
def test_every_form_of_resolv_conf(kind: str, tmp_path: Path) -> None:
    """The script runs on a machine of its own: a mount namespace with another /etc and /run."""
    from netbridge.bridge.transport.sandbox_script import SCRIPT

    outer = f"""
    set -e
    mount --make-rprivate /
    mkdir {tmp_path}/etc {tmp_path}/run
    cp -r /etc/passwd /etc/group /etc/nsswitch.conf {tmp_path}/etc
    mount --bind {tmp_path}/etc /etc
    mount --bind {tmp_path}/run /run
    {RESOLVERS[kind]}
    before=$(ls -lR /etc /run; cat /etc/resolv.conf 2>/dev/null || :)
    {{ sleep 0.5; }} | unshare --net --mount --pid --fork sh -c "$SCRIPT" sandbox word
    after=$(ls -lR /etc /run; cat /etc/resolv.conf 2>/dev/null || :)
    [ "$before" = "$after" ] || {{ echo "$before"; echo "$after"; exit 1; }}
    """
    look = (
        'echo "[$(cat /etc/resolv.conf)]"; ls /run/systemd/resolve 2>/dev/null || :;'
        "echo nameserver 1.1.1.1 >/etc/resolv.conf;"
    )
    script = SCRIPT.replace("printf '%s-%s", f"{look} cat /etc/resolv.conf\nprintf '%s-%s")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", outer],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SCRIPT": script},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "[# The netbridge sandbox: no name server until a bridge is up.]"
    assert "nameserver 1.1.1.1" in rest
    assert "io.systemd.Resolve" not in rest
    assert "netbridge-word" in rest
