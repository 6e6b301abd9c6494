"""The other way round: a session that speaks badly to a real agent, which undoes everything, whatever it was told."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from netbridge.bridge.agent.frames import CONTROL, PACKET, ack_frame, control_frame, frame_header
from tests.bridge.agent.channels import LocalTransport
from tests.bridge.agent.conftest import RESOLV_CONF, SETUP, Place

from .bad_control import JUNK, TEXTS

pytestmark = pytest.mark.net

ENDS = {
    "a kind that is none": frame_header(9, 8) + bytes(8),
    "a packet too long": frame_header(PACKET, 0xFFFFFF),
    "random bytes": b"\xff" + random.Random(1).randbytes(1 << 16),
    "an acknowledgement of what was not sent": ack_frame(1 << 60),
    "no JSON": frame_header(CONTROL, 7) + b"{type:}",
    "nested deeply": frame_header(CONTROL, 200_000) + b"[" * 200_000,
    "half a frame, and the end": frame_header(PACKET, 1500) + bytes(100),
}
"""After which the agent ends."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for descriptor in made.descriptors:
        os.close(descriptor)


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Ends every process a test started."""
    yield
    for channel in LocalTransport.opened:
        await channel.dispose()
    LocalTransport.opened.clear()


def traces(enter: list[str]) -> str:
    """What the agent may have left of itself."""
    script = "ip -o link | grep nb0; ip route show table all | grep nb0; ip rule | grep -v lookup.\\*[mdl]; true"
    return subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("what", list(ENDS))
async def test_it_ends_and_leaves_nothing(place: Place, what: str) -> None:
    agent = await place.agent()
    enter = place.enter(agent)
    await agent.setup(SETUP)
    assert "nb0" in traces(enter)
    assert place.resolv_conf.read_bytes() != RESOLV_CONF
    agent.channel.write([ENDS[what]])
    if "the end" in what:
        agent.close()
    async with asyncio.timeout(20):
        await agent.channel.wait_closed()
    assert traces(enter) == ""
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


TYPES = ("setup", "routes", "host_routes", "names", "resume", "dial", "hang_up", "trace", "probe", "nothing", "")
FIELDS = (
    "number", "routes", "exclude", "addresses", "suffixes", "search", "session", "secret", "taken", "host", "port",
    "name", "dns", "mtu", "tun", "gateways", "explicit", "back", "replace",
)  # fmt: skip


async def test_messages_of_junk_are_refused_and_it_goes_on(place: Place) -> None:
    """Each type with junk in each field, before the setup and after it; then it still works, and undoes everything."""
    agent = await place.agent(timeout=50)
    enter = place.enter(agent)
    rnd = random.Random(1)

    def junk(types: tuple[str, ...]) -> None:
        for _ in range(3):
            for type_ in types:
                fields = {name: rnd.choice(JUNK) for name in FIELDS if rnd.random() < 0.7}
                agent.channel.write([control_frame({**fields, "type": type_})])

    junk(tuple(type_ for type_ in TYPES if type_ not in {"resume", "setup"}))
    await agent.ping()  # what it says to that is no answer to the setup
    await agent.setup(SETUP)
    junk(TYPES)
    for name, (text, harmless) in TEXTS.items():
        if harmless and name != "surrogates-raw":
            body = text.encode()
            agent.channel.write([frame_header(CONTROL, len(body)) + body])
    assert await agent.ping() >= 0
    changed = await agent.change_routes(["192.168.0.0/16"], [])
    assert changed["routes"] == ["192.168.0.0/16"], json.dumps(changed)
    await agent.stop()
    assert traces(enter) == ""
    assert place.resolv_conf.read_bytes() == RESOLV_CONF


