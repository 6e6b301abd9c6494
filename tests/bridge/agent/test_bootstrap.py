"""The start: every Python and shell it must work with, and every way it can fail, told in three sentences."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.agent.frames import control_frame
from netbridge.bridge.bootstrap import MAX_NOISE, AgentHandle, AgentOptions, agent_command, launch, start_agent
from netbridge.bridge.errors import BridgeError, TargetLacksError, TargetUnreachableError
from netbridge.bridge.firststage import PYTHONS, agent_code, command

from .channels import LocalTransport, PipeChannel
from .conftest import RESOLV_CONF, SETUP, Place

net = pytest.mark.net
NEEDED = ("sh", "tr", "id", "setpriv", "mount", "unshare", "ip", "cat", "sleep", "true")

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@functools.cache
def python(version: str) -> str | None:
    """A real interpreter of that version (pyenv's shims are none until one is selected)."""
    found = shutil.which(f"python{version}")
    candidates = [found] if found else []
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        for name in listed.split():
            if name.startswith(version + "."):
                prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=False).stdout
                candidates.append(f"{prefix.strip()}/bin/python")
    ask = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    for candidate in candidates:
        told = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False).stdout.split()
        if told[:1] == [version]:
            return told[1]
    return None


def need(version: str) -> str:
    found = python(version)
    if found is None:
        pytest.skip(f"there is no Python {version} here")
    return found


class Programs:
    """A folder that is the whole PATH of a target."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in NEEDED:
            self.add(name, str(shutil.which(name)))

    def add(self, name: str, target: str) -> None:
        # A link would make the interpreter look for its library beside the link.
        (self.folder / name).write_text(f'#!/bin/sh\nexec {target} "$@"\n')
        (self.folder / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": str(self.folder)}

    def for_nobody(self) -> dict[str, Any]:
        """For `Place.transport`: a user who may not look into the test's folder gets it at /mnt."""
        return {"before": f"mount --bind {self.folder} /mnt;", "then": (*NOBODY, "env", "PATH=/mnt")}


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "bin")


def three_sentences(error: BridgeError) -> None:
    for part in (error.what, error.why, error.todo):
        assert part.endswith("."), part
    assert str(error).count("\n") == 0


# What it must work with.


@net
@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
async def test_every_python(place: Place, programs: Programs, version: str) -> None:
    programs.add("python3", need(version))
    agent = await place.agent(env=programs.env)
    assert agent.hello["python"].startswith(version + ".")
    ready = await agent.setup(SETUP)
    assert ready["dns"] is True
    await agent.ping()
    await agent.stop()
    assert await agent.channel.wait_closed() == 0
    assert agent.channel.diagnostics() == ""


@net
async def test_a_newer_python_beside_an_old_python3_is_found(place: Place, programs: Programs) -> None:
    programs.add("python3", need("3.6"))
    programs.add("python3.9", need("3.9"))
    programs.add("python3.12", "/nonexistent")  # a shim that leads nowhere
    agent = await place.agent(env=programs.env)
    assert agent.hello["python"].startswith("3.9.")
    await agent.stop()


def without_json(real: str) -> str:
    """A command that runs Python without a part of its library, as Debian's python3-minimal is."""
    hide = "import sys; sys.modules['json'] = None; exec(sys.argv[-1])"
    return f'{real} -c "{hide}"'


@net
async def test_a_python_without_its_whole_library_is_refused(place: Place, programs: Programs) -> None:
    programs.add("python3", without_json(need("3.11")))
    with pytest.raises(TargetLacksError, match="standard library") as caught:
        await place.agent(env=programs.env)
    three_sentences(caught.value)
    assert "3.11" in caught.value.why
    assert "apt-get install python3`" in caught.value.todo


@net
async def test_beside_it_a_whole_one_is_found(place: Place, programs: Programs) -> None:
    programs.add("python3", without_json(need("3.11")))
    programs.add("python3.9", need("3.9"))
    agent = await place.agent(env=programs.env)
    assert agent.hello["python"].startswith("3.9.")
    await agent.stop()


SHELLS = ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh", "ksh", "busybox"]


@net
@pytest.mark.parametrize("shell", SHELLS)
async def test_every_login_shell(place: Place, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    transport = place.transport(shell=shell)
    if shell == "busybox":
        transport = place.transport(then=("busybox",), shell="ash")
    agent = await launch(transport, options=AgentOptions(timeout=10))
    assert (await agent.setup(SETUP))["tun"] == "nb0"
    await agent.stop()


def test_the_command_is_one_line_that_all_shells_read_alike() -> None:
    line = command("0123456789abcdef")
    assert len(line) < 4096
    assert line.startswith("exec sh -c '")
    assert line.count("'") == 4
    assert not set(line) & set("!\\\n`")
    assert "NB:0123456789abcdef:" not in line


def test_the_code_is_small_and_made_of_python() -> None:
    assert len(agent_code()) < 96 * 1024  # a tenth of a second at 8 Mbit/s, sent at each start
    assert PYTHONS.split()[0] == "python3"


@net
async def test_noise_before_the_marker_is_skipped(place: Place) -> None:
    noise = "Welcome!\\nNB:\\0\\377NB:0123:agent\\n" * 20
    agent = await place.agent(before=f"printf '{noise}'; ")
    assert agent.hello["uid"] == 0
    await agent.stop()


@net
async def test_the_code_arrives_in_small_pieces(place: Place) -> None:
    options = AgentOptions(timeout=20)
    channel = await place.transport().open(agent_command(options))
    write = channel.write

    def dribble(buffers: Any) -> None:
        for buffer in buffers:
            for start in range(0, len(buffer), 500):
                write((buffer[start : start + 500],))
                os.sched_yield()

    channel.write = dribble  # type: ignore[method-assign]
    agent = await start_agent(channel, options=options)
    assert (await agent.setup(SETUP))["tun"] == "nb0"
    await agent.stop()


@net
async def test_ssh_connection_names_the_peer(place: Place) -> None:
    environment = {**os.environ, "SSH_CONNECTION": "10.7.7.7 50000 10.3.0.5 22"}
    agent = await place.agent(env=environment)
    assert agent.hello["facts"]["ssh_peer"] == "10.7.7.7"
    ready = await agent.setup({**SETUP, "routes": ["10.7.7.0/24"]})
    assert "10.7.7.6/32" in ready["routes"]
    assert "10.7.7.7/32" not in ready["routes"]
    assert "10.7.7.4/30" not in ready["routes"]
    await agent.stop()


def sudo_allowed(tmp_path: Path) -> dict[str, Any]:
    """For `Place.agent`: an ordinary user who may sudo."""
    if shutil.which("sudo") is None:
        pytest.skip("there is no sudo here")
    rules = tmp_path / "sudoers"
    rules.write_text("Defaults use_pty\nALL ALL=(ALL) NOPASSWD: ALL\n")
    rules.chmod(0o440)
    return {"before": f"mount --bind {rules} /etc/sudoers;", "then": NOBODY}


@net
async def test_sudo_is_used_when_not_root_and_does_not_relay(place: Place, tmp_path: Path) -> None:
    environment = {**os.environ, "SSH_CONNECTION": "10.7.7.7 50000 10.3.0.5 22"}
    agent = await place.agent(**sudo_allowed(tmp_path), env=environment)
    assert agent.hello["uid"] == 0
    assert agent.hello["user"] == "nobody"
    assert agent.hello["facts"]["ssh_peer"] == "10.7.7.7"
    held = {os.readlink(f"/proc/{agent.hello['pid']}/fd/{number}") for number in (3, 4, 5, 6, 7, 8)}
    for own in (agent.channel.process.stdin, agent.channel.process.stdout):  # type: ignore[attr-defined]
        assert os.readlink(f"/proc/self/fd/{own.fileno()}") in held
    assert (await agent.setup(SETUP))["dns"] is True
    await agent.stop()
    assert await agent.channel.wait_closed() == 0
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


@net
async def test_behind_sudo_a_kill_undoes_everything_as_well(place: Place, tmp_path: Path) -> None:
    agent = await place.agent(**sudo_allowed(tmp_path))
    await agent.setup(SETUP)
    lost = asyncio.get_running_loop().create_future()
    agent.on_lost = lost.set_result
    os.kill(agent.hello["pid"], signal.SIGKILL)
    async with asyncio.timeout(5):
        await lost
        assert await agent.channel.wait_closed() not in {0, None}
        while place.resolv_conf.read_bytes() != RESOLV_CONF:
            await asyncio.sleep(0.01)


# What can fail.


async def refused(transport: LocalTransport, kind: type[BridgeError], *, timeout: float = 10) -> BridgeError:
    with pytest.raises(kind) as caught:
        await launch(transport, options=AgentOptions(timeout=timeout))
    three_sentences(caught.value)
    assert await transport.channels[-1].wait_closed() is not None
    return caught.value


async def test_no_python(programs: Programs) -> None:
    error = await refused(LocalTransport(env=programs.env), TargetLacksError)
    assert error.exit_code == 5
    assert "No python3 was found" in error.why


@pytest.mark.parametrize(
    ("version", "name"), [("2.7", "python2"), ("2.7", "python3"), ("3.6", "python3"), ("3.7", "python")]
)
async def test_old_pythons(programs: Programs, version: str, name: str) -> None:
    programs.add(name, need(version))
    error = await refused(LocalTransport(env=programs.env), TargetLacksError)
    assert error.exit_code == 5
    assert error.what == "The agent needs Python 3.8 or newer on the target."
    assert error.why.startswith(f"The newest one in its PATH is {version}.")


@net
async def test_no_sudo(place: Place, programs: Programs) -> None:
    programs.add("python3", "/usr/bin/python3")
    transport = place.transport(**programs.for_nobody())
    error = await refused(transport, TargetLacksError)
    assert error.exit_code == 5
    assert error.why == "The user nobody is not root and there is no sudo."


@net
async def test_sudo_wants_a_password(place: Place, programs: Programs) -> None:
    programs.add("python3", "/usr/bin/python3")
    (programs.folder / "sudo").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    (programs.folder / "sudo").chmod(0o755)
    transport = place.transport(**programs.for_nobody())
    error = await refused(transport, TargetLacksError)
    assert error.why == "sudo does not let nobody in without a password (sudo: a password is required)."
    assert "NOPASSWD" in error.todo


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the start ends earlier, at sudo")
async def test_a_target_that_closes_in_mid_handshake(programs: Programs) -> None:
    script = '#!/bin/sh\ncase "$*" in *-B*) echo gone >&2; exit 7;; esac\necho False 3.11.0 "$0"\n'
    (programs.folder / "python3").write_text(script)
    (programs.folder / "python3").chmod(0o755)
    error = await refused(LocalTransport(env=programs.env), TargetUnreachableError)
    assert error.exit_code == 3
    assert error.what == "The agent did not start."
    assert "gone" in error.why


@pytest.mark.parametrize("script", ["exit 3", "printf NB:", "true"])
async def test_a_shell_that_ends_at_once(script: str) -> None:
    error = await refused(Scripted(script), TargetUnreachableError)
    assert error.exit_code == 3


class Scripted(LocalTransport):
    """Runs a script of the test's own in place of the command; `$NONCE` is the start's."""

    def __init__(self, script: str) -> None:
        super().__init__()
        self.script = script

    async def open(self, command: str) -> PipeChannel:
        nonce = command.split("m=NB; m=$m:", 1)[1][:16]
        return await super().open(f"NONCE={nonce}; {self.script}")


async def test_a_target_that_says_nothing() -> None:
    error = await refused(Scripted("exec sleep 1"), TargetUnreachableError, timeout=0.2)
    assert "within 0.2 s" in error.what


async def test_an_agent_that_says_no_hello() -> None:
    error = await refused(Scripted("echo NB:$NONCE:agent; exec sleep 1"), TargetUnreachableError, timeout=0.2)
    assert "said nothing after its start within 0.2 s" in error.what


async def test_endless_noise_is_cut_off() -> None:
    error = await refused(Scripted("exec yes"), TargetUnreachableError)
    assert "login scripts" in error.todo
    assert int(error.why.split()[3]) < MAX_NOISE + (1 << 20)


async def test_an_endless_marker_is_cut_off() -> None:
    with pytest.raises(TargetUnreachableError, match="no end"):
        await launch(Scripted("printf NB:$NONCE:; yes | tr -d '\\n'"), options=AgentOptions(timeout=5))


@pytest.mark.parametrize(
    ("answer", "what"),
    [("NB:$NONCE:nonsense", "did not start"), ("NB:$NONCE:agent\\nHTTP/1.1 400", "went away at its start")],
)
async def test_nonsense_after_the_marker(answer: str, what: str) -> None:
    with pytest.raises(BridgeError, match=what):
        script = f"printf '{answer}\\n' | sed s/.NONCE/$NONCE/; sleep 0.3"
        await launch(Scripted(script), options=AgentOptions(timeout=5))


@pytest.mark.parametrize("hello", [{"protocol": 2, "facts": {}}, {"protocol": 1}, {"protocol": 1, "facts": []}])
async def test_another_protocol_is_refused(tmp_path: Path, hello: dict[str, Any]) -> None:
    (tmp_path / "hello").write_bytes(control_frame({"type": "hello", **hello}))
    with pytest.raises(BridgeError, match="another protocol"):
        await launch(
            Scripted(f"echo NB:$NONCE:agent; cat {tmp_path}/hello; sleep 0.3"), options=AgentOptions(timeout=5)
        )


async def test_the_targets_words_cannot_write_to_the_terminal() -> None:
    transport = Scripted(r"printf 'NB:%s:no-sudo \033[2Jevil\007|x\n' $NONCE")
    with pytest.raises(TargetLacksError) as caught:
        await launch(transport, options=AgentOptions(timeout=5))
    assert str(caught.value).isprintable()
    assert "evil" in str(caught.value)


@net
async def test_a_cancelled_start_closes_the_channel(place: Place) -> None:
    transport = place.transport(before="sleep 0.3;")
    starting = asyncio.ensure_future(launch(transport, options=AgentOptions(timeout=10)))
    await asyncio.sleep(0.1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await transport.channels[0].wait_closed() is not None


@net
async def test_stopping_twice_and_after_the_end_is_harmless(place: Place) -> None:
    agent: AgentHandle = await place.agent()
    await agent.setup(SETUP)
    lost: list[Exception | None] = []
    agent.on_lost = lost.append
    await agent.stop()
    await agent.stop()
    agent.close()
    assert lost == [None]
