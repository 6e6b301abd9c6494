"""Codespaces through a stand-in for gh whose tunnel leads to a real sshd: what is found, refused and said."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError, UsageError
from netbridge.bridge.transport import gh, make_transport, ssh_proxy
from netbridge.bridge.transport.base import Channel, Transport
from netbridge.bridge.transport.gh_codespace import FIELDS, argument, find, parse_list
from netbridge.bridge.transport.gh_transport import parse_configuration

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # `tests` is no installed package

from tests.world.gh import NAMES, StandIn, codespace

from .listener import echo, gone
from .server import SshServer, keygen

SSHES = ("openssh", "asyncssh")
SCOPE = 'This API operation needs the "codespace" scope. To request it, run:  gh auth refresh -h H -s codespace'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("SSH_AUTH_SOCK", "SUDO_UID", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def stand_in(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    # A folder name that a shell, and ssh's %-tokens, would read otherwise.
    made = StandIn(tmp_path / "it's 100%h bin")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    return made


@pytest.fixture
def reachable(stand_in: StandIn, ssh_server: SshServer) -> StandIn:
    """The tunnel leads to a real sshd."""
    keys = ssh_server.folder / "authorized_keys"
    stand_in.tell(user=pwd.getpwuid(os.geteuid()).pw_name, port=ssh_server.port, authorized_keys=str(keys))
    return stand_in


@pytest.fixture
def lines() -> list[str]:
    return []


async def reach(name: str, ssh: str, lines: list[str]) -> tuple[Transport, Channel]:
    transport = make_transport(name, ssh=ssh, log=lines.append, interactive=False)
    await transport.connect()
    return transport, await transport.open("cat")


async def failure(name: str, ssh: str = "openssh") -> BridgeError:
    transport = make_transport(name, ssh=ssh, log=lambda _line: None, interactive=False)
    with pytest.raises(BridgeError) as caught:
        async with asyncio.timeout(30):
            await transport.connect()
            await transport.open("cat")
    await transport.close()
    assert caught.value.what
    assert caught.value.why
    assert caught.value.todo
    assert str(caught.value).isprintable()
    return caught.value


# --- the way there ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ssh", SSHES)
async def test_three_megabytes_through_the_tunnel(reachable: StandIn, home: Path, ssh: str, lines: list[str]) -> None:
    transport, channel = await reach(NAMES[0], ssh, lines)
    assert transport.peer_address is None
    await echo(channel, 3_000_000)
    channel.close()
    async with asyncio.timeout(10):
        await channel.wait_closed()
        await transport.close()
    assert not any("tunnel closed" in line for line in lines)
    key = home / ".ssh/codespaces.auto"
    assert reachable.calls[-1]["words"][-2:] == ["-i", str(key)]
    assert [path.stat().st_mode & 0o777 for path in (key, key.with_suffix(".auto.pub"), key.parent)] == [
        0o600, 0o644, 0o700,
    ]  # fmt: skip


async def test_a_key_that_is_there_is_taken(reachable: StandIn, home: Path, lines: list[str]) -> None:
    key = home / "mine"
    keygen(key)
    reachable.tell(key=str(key))
    before = key.read_bytes()
    transport, channel = await reach(NAMES[0], "openssh", lines)
    channel.close()
    await channel.wait_closed()
    await transport.close()
    assert key.read_bytes() == before
    key.with_suffix(".pub").unlink()
    error = await failure(NAMES[0])
    assert isinstance(error, NotPermittedError)
    assert "ssh-keygen -y" in error.todo


@pytest.mark.parametrize("ssh", SSHES)
async def test_a_server_that_does_not_take_the_key(reachable: StandIn, tmp_path: Path, ssh: str) -> None:
    reachable.tell(authorized_keys=str(tmp_path / "elsewhere"))
    error = await failure(NAMES[0], ssh)
    assert isinstance(error, NotPermittedError)
    assert "does not let you in" in error.what


@pytest.mark.parametrize("ssh", SSHES)
async def test_a_codespace_without_an_ssh_server(reachable: StandIn, ssh: str) -> None:
    reachable.tell(no_sshd=True)
    error = await failure(NAMES[0], ssh)
    assert isinstance(error, TargetLacksError)
    assert "ghcr.io/devcontainers/features/sshd" in error.todo


@pytest.mark.parametrize("ssh", SSHES)
async def test_a_tunnel_that_takes_its_time(
    reachable: StandIn, ssh: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub is asked for the way first; what is wrong shows later than a proxy's first byte is waited for."""
    monkeypatch.setattr(ssh_proxy, "FIRST_BYTE", 0.2)
    reachable.tell(tunnel_seconds=0.6)
    transport, channel = await reach(NAMES[0], ssh, lines)
    await echo(channel, 10_000)
    channel.close()
    await channel.wait_closed()
    await transport.close()
    reachable.tell(no_sshd=True)
    assert isinstance(await failure(NAMES[0], ssh), TargetLacksError)


async def test_a_start_that_fails(reachable: StandIn) -> None:
    reachable.tell(start_fails=True)
    error = await failure(NAMES[1])
    assert isinstance(error, NotPermittedError)
    assert "HTTP 402: Payment Required" in error.why


async def test_a_codespace_that_no_start_brings_back(reachable: StandIn) -> None:
    reachable.tell(codespaces=[codespace(NAMES[0], "Failed")])
    error = await failure(NAMES[0])
    assert isinstance(error, TargetUnreachableError)
    assert "Failed" in error.why
    assert not any("ssh" in call["words"] for call in reachable.calls)


# --- gh itself --------------------------------------------------------------------------------------------------------


async def test_gh_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = await failure("fluffy")
    assert isinstance(error, TargetLacksError)
    assert "gh auth login -s codespace" in error.todo


@pytest.mark.parametrize(("told", "kind", "said"), [
    ({"version": "2.12.1"}, TargetLacksError, "This is 2.12.1; 2.13.0 is needed."),
    ({"fails": "unknown flag: --json"}, TargetLacksError, "too old"),
    ({"logged_in": False}, NotPermittedError, "Run `gh auth login -s codespace`."),
    ({"fails": f"HTTP 403: x\n{SCOPE}"}, NotPermittedError, "It lacks the scope `codespace`."),
    ({"fails": f"HTTP 404: Not Found\n{SCOPE}"}, NotPermittedError, "It lacks the scope `codespace`."),
    ({"asks": True}, BridgeError, "wants to ask"),
    ({"fails": "cancelled by user", "status": 2}, BridgeError, "was cancelled"),
    ({"fails": "dial tcp: lookup api.github.com: no such host"}, TargetUnreachableError, "not reachable"),
    ({"fails": "\x1b[31mevil\x1b[2J \u202e text"}, TargetUnreachableError, "evil"),
])
async def test_what_gh_says_becomes_three_sentences(
    stand_in: StandIn, told: dict[str, Any], kind: type[BridgeError], said: str
) -> None:
    stand_in.tell(**told)
    error = await failure(NAMES[0])
    assert type(error) is kind
    assert said in str(error)


async def test_a_gh_that_does_not_end_is_ended(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.tell(deaf=True)
    monkeypatch.setattr(gh, "LIST_PATIENCE", 1.0)
    before = set(os.listdir("/proc"))
    error = await failure(NAMES[0])
    assert isinstance(error, TargetUnreachableError)
    assert "within 1 s" in error.what
    for pid in filter(str.isdigit, set(os.listdir("/proc")) - before):
        try:
            mine = str(stand_in.folder) in Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        assert not mine or await gone(int(pid))


async def test_what_is_no_list(stand_in: StandIn) -> None:
    for text in (b"{}", b"[1]", b"no", b"[" * 100_000, b'[{"name": 1}]'):
        try:
            found = parse_list(text)
        except BridgeError as error:
            assert str(error).isprintable()
        else:
            assert found[0].name == ""


# --- names ------------------------------------------------------------------------------------------------------------

LISTED = parse_list(json.dumps([
    codespace(NAMES[0]), codespace(NAMES[1], "Shutdown"), codespace(NAMES[2]),
    codespace("twin-1", displayName="twin"), codespace("twin-2", displayName="twin"), codespace("twin", displayName=""),
    codespace("x-1", displayName="solo"), codespace("x-2", displayName="solo for two"),
]).encode())  # fmt: skip


@pytest.mark.parametrize(("wanted", "found"), [
    (NAMES[0], NAMES[0]),
    ("fluffy robot", NAMES[0]),
    ("mona-f", NAMES[0]),
    ("Shiny Tr", NAMES[1]),
    ("twin", "twin"),  # a whole name before a display name
    ("twin-2", "twin-2"),
    ("solo", "x-1"),  # a whole display name before the beginning of another
])
def test_a_name_that_fits_one(wanted: str, found: str) -> None:
    assert find(LISTED, wanted).name == found


@pytest.mark.parametrize(("wanted", "kind"), [
    ("mona", UsageError), ("shiny", UsageError), ("fluff1", TargetUnreachableError), ("robot", TargetUnreachableError),
])
def test_a_name_that_fits_several_or_none(wanted: str, kind: type[BridgeError]) -> None:
    with pytest.raises(kind) as caught:
        find(LISTED, wanted)
    assert NAMES[1] in caught.value.why


NO_NAMES = ("--evil", "-x", "a b", "$(id)", "a\nb", "a;b", "a%h", "", "ä", "a" * 200, "../a")


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name(name: str) -> None:
    (listed,) = parse_list(json.dumps([codespace(name)]).encode())
    with pytest.raises(BridgeError) as caught:
        argument(listed)
    assert str(caught.value).isprintable()


async def test_a_name_that_is_none_reaches_no_argument_list(stand_in: StandIn) -> None:
    stand_in.tell(codespaces=[codespace(NO_NAMES[0], displayName="innocent")])
    assert "is refused" in (await failure("innocent")).what
    assert [call["words"][:2] for call in stand_in.calls] == [["--version"], ["codespace", "list"]]


async def test_a_person_may_type_anything(stand_in: StandIn) -> None:
    for name in ("$(id)", "a b %h é"):
        assert isinstance(await failure(name), TargetUnreachableError)
    assert {call["words"][-1] for call in stand_in.calls if "list" in call["words"]} == {",".join(FIELDS)}


# --- gh's configuration -----------------------------------------------------------------------------------------------

GOOD = "Host cs.a.main\n\tUser codespace\n\tProxyCommand gh cs ssh -c a --stdio -- -i /k\n\tIdentityFile /h/my key\n\n"


def test_user_and_key_of_the_configuration() -> None:
    assert parse_configuration(GOOD) == ("codespace", Path("/h/my key"))


@pytest.mark.parametrize("text", [
    "",
    GOOD.replace("User codespace", ""),
    GOOD.replace("codespace", "-oProxyCommand=x"),
    GOOD.replace("codespace", "$(id)"),
    GOOD.replace("codespace", "codespace\n\tIdentityFile /home/me/.ssh/other"),
    GOOD.replace("codespace", "codespace\n\tUser root"),
    GOOD.replace("Host cs.a.main", "Host cs.a.main\nHost *"),
    GOOD.replace("/h/my key", "key"),
    GOOD.replace("/h/my key", '/h/"key'),
    GOOD.replace("/h/my key", "/h/\x1bkey"),
])
def test_a_configuration_that_gh_would_not_print(text: str) -> None:
    with pytest.raises(BridgeError) as caught:
        parse_configuration(text)
    assert str(caught.value).isprintable()


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_passes_is_harmless(user: str, branch: str) -> None:
    try:
        found, key = parse_configuration(GOOD.replace("codespace", user).replace("main", branch))
    except BridgeError:
        return
    assert found[0] not in "-."
    assert not set(found) & set(" ;|&$`'\"\\<>(){}*?!#~%\n")
    assert key == Path("/h/my key")


@given(st.text(max_size=60))
def test_a_name_that_passes_is_harmless(name: str) -> None:
    (listed,) = parse_list(json.dumps([{"name": name}]).encode())
    try:
        word = argument(listed)
    except BridgeError as error:
        assert str(error).isprintable()
        return
    assert word[0].isalnum()
    assert not set(word) & set(" ;|&$`'\"\\<>(){}*?!#~%/\n")
