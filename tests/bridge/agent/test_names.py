"""Names over there while they change: the `names` message, resolv.conf, and everything as before in the end."""

from __future__ import annotations

import os
import signal

import pytest

from netbridge.bridge.agent import resolvconf
from netbridge.bridge.errors import BridgeError

from .conftest import RESOLV_CONF, SETUP, Place
from .test_agent import until

pytestmark = pytest.mark.net


def search(place: Place) -> list[str]:
    return resolvconf.parse(place.resolv_conf.read_bytes()).search


async def test_the_search_list_changes_and_is_undone(place: Place) -> None:
    """In place: programs that look at the file again, as glibc and musl do, see it; its identity stays."""
    inode = place.resolv_conf.stat().st_ino
    agent = await place.agent()
    await agent.setup(SETUP)
    assert search(place) == ["old.example", "corp.example"]
    await agent.change_names(["corp.example", "vpn.example"], ["vpn.example", "corp.example"])
    assert search(place) == ["old.example", "vpn.example", "corp.example"]
    assert place.resolv_conf.stat().st_ino == inode
    await agent.change_names([], [])
    assert search(place) == ["old.example"]
    assert b"nameserver 127.83.0.1\n" in place.resolv_conf.read_bytes()
    await agent.stop()
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


async def test_what_was_changed_is_undone_by_the_guardian(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    await agent.change_names(["vpn.example"], ["vpn.example"])
    os.kill(agent.hello["pid"], signal.SIGKILL)
    await until(lambda: place.resolv_conf.read_bytes() == RESOLV_CONF, "resolv.conf is as before")


async def test_somebody_elses_file_gets_the_search_list_of_now(place: Place) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    await agent.change_names(["vpn.example"], ["vpn.example"])
    place.resolv_conf.write_bytes(b"nameserver 127.99.0.7\nsearch cloud.example\n")
    await until(lambda: search(place) == ["cloud.example", "vpn.example"], "it is edited again", 8)
    await agent.stop()
    assert place.resolv_conf.read_bytes() == b"nameserver 127.99.0.7\nsearch cloud.example\n"


@pytest.mark.parametrize("mode", ["off", "auto"])
async def test_where_there_is_no_stub_it_is_answered_all_the_same(place: Place, mode: str) -> None:
    agent = await place.agent()
    await agent.setup({**SETUP, "dns": {**SETUP["dns"], "mode": mode, "service": []}})
    await agent.change_names(["vpn.example"], ["vpn.example"])
    assert place.resolv_conf.read_bytes() == RESOLV_CONF
    await agent.stop()


@pytest.mark.parametrize("name", ["two words", "a\nnameserver 6.6.6.6", ""])
async def test_what_would_break_the_line_is_refused(place: Place, name: str) -> None:
    agent = await place.agent()
    await agent.setup(SETUP)
    with pytest.raises(BridgeError):
        await agent.change_names([], [name])
    assert search(place) == ["old.example", "corp.example"]
    await agent.stop()
