"""Keys, places, the link that asks whether the other end lives, shares of limits, a socket left behind."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Literal

import pytest

from netbridge.bridge.errors import BridgeError, NotPermittedError, UsageError
from netbridge.bridge.forward.limits import Limits
from netbridge.bridge.joint import key
from netbridge.bridge.joint.alive import Alive
from netbridge.bridge.joint.credentials import Credentials
from netbridge.bridge.joint.place import Place, parse
from netbridge.bridge.joint.sides import ENTRANCE, EXIT, ExitSide, share
from netbridge.stack import Stack, memory_link
from tests.bridge.joint.ends import desk, joined

# -- keys


def test_a_key_is_made_kept_and_read(tmp_path: Path) -> None:
    file = tmp_path / "psk"
    key.write(str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(key.read(str(file))) == 32
    assert key.found(str(file), {}) == key.found(None, {key.VARIABLE: file.read_text()})
    assert key.found(None, {key.VARIABLE: ""}) is None
    with pytest.raises(UsageError, match="there already"):
        key.write(str(file))
    assert key.make() != key.make()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o660, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "psk"
    key.write(str(file))
    file.chmod(mode)
    with pytest.raises(NotPermittedError, match="not secret"):
        key.read(str(file))
    file.chmod(0o440)  # as a Secret of Kubernetes is mounted
    key.read(str(file))


@pytest.mark.parametrize(
    "text", ["", "hunter2", "nbk1_", "nbk1_AAAA", "nbk1_" + "A" * 44, "nbk2_" + "A" * 43, "nbk1_" + "*" * 43],
)  # fmt: skip
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="holds no key") as told:
        key.parse(text, "It")
    assert not text or len(text) < 6 or text not in str(told.value)


# -- places


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("tcp+tls://gateway.test:4430", Place("tcp+tls", "gateway.test", 4430)),
        ("tcp+tls://[fd00::1]:1", Place("tcp+tls", "fd00::1", 1)),
        ("wss://h.test:443", Place("wss", "h.test", 443, "/")),
        ("wss://h.test:443/a/b", Place("wss", "h.test", 443, "/a/b")),
        ("quic://192.0.2.1:2", Place("quic", "192.0.2.1", 2)),
        ("libp2p:///ip4/192.0.2.1/tcp/4001", Place("libp2p", path="/ip4/192.0.2.1/tcp/4001")),
        ("ssh://me@devbox:22", Place("ssh", "devbox", 22, user="me")),
        ("unix:/run/s", Place("unix", path="/run/s")),
    ],
)
def test_a_place_is_read_and_written(text: str, place: Place) -> None:
    assert parse(text, "connect") == place
    assert parse(str(place), "connect") == place


@pytest.mark.parametrize(
    ("text", "purpose"),
    [
        ("tcp://h:1", "connect"), ("h:1", "connect"), ("tcp+tls://h", "connect"), ("tcp+tls://h:0", "connect"),
        ("tcp+tls://:1", "connect"), ("tcp+tls://*:1", "connect"), ("tcp+tls://h:1/x", "connect"),
        ("tcp+tls://me@h:1", "connect"), ("tcp+tls://h:70000", "connect"), ("wss://h:1/?x", "connect"),
        ("ssh://h", "listen"), ("stdio:", "connect"), ("unix:s", "listen"), ("unix://h/s", "listen"),
        ("ssh://me:secret@h", "connect"), ("ssh://-oProxyCommand=x", "connect"), ("ssh://-l@h", "connect"),
        ("libp2p:ip4", "listen"), ("", "listen"),
    ],
)  # fmt: skip
def test_what_is_no_place(text: str, purpose: Literal["listen", "connect"]) -> None:
    with pytest.raises(UsageError):
        parse(text, purpose)


def test_every_address() -> None:
    assert parse("quic://*:1", "listen").host == ""


# -- the link that asks


async def test_an_end_that_lives_is_left_alone_and_a_silent_one_given_up() -> None:
    one, other = memory_link()
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    alive = Alive(one, ENTRANCE, EXIT, interval=0.02, silence=0.3)
    async with asyncio.timeout(20), Stack(alive, [f"{ENTRANCE}/30"]) as near:
        near.on_lost = lost.set_result
        far = Stack(other, [f"{EXIT}/30"])
        async with far:
            await asyncio.wait([lost], timeout=1.0)
            assert not lost.done(), "it answers"
            far.packet_received = lambda packet: None  # type: ignore[method-assign]  # deaf, and so dumb
            assert "nothing has come" in str(await lost)


# -- shares


def test_sessions_have_equal_parts_of_what_the_process_may_use() -> None:
    whole = Limits()
    assert share(whole, 1) == whole
    part = share(whole, 16)
    assert part.tcp_flows == whole.tcp_flows // 16
    assert part.bytes_in_all == whole.bytes_in_all // 16
    assert part.tcp_connect_timeout == whole.tcp_connect_timeout
    assert share(whole, 1_000_000).tcp_flows == 8, "never less than what makes sense"


def test_rules_that_make_no_sense_are_told_at_once() -> None:
    with pytest.raises(UsageError, match="rules make no sense"):
        ExitSide(["10.0.0.1/8"])
    with pytest.raises(UsageError, match="rules make no sense"):
        ExitSide(deny=["everything"])


# -- unix sockets


async def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with asyncio.timeout(20), desk(f"unix:{path}", Credentials()):
        assert path.stat().st_mode & 0o777 == 0o600
        async with joined(f"unix:{path}", Credentials()) as stack:
            assert await stack.ping(EXIT) < 5.0
        with pytest.raises(BridgeError, match="cannot be listened on"):
            async with desk(f"unix:{path}", Credentials()):
                pass
    assert not path.exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BridgeError, match="cannot be listened on"):
        async with desk(f"unix:{tmp_path}/file", Credentials()):
            pass
    assert os.path.exists(tmp_path / "file")
