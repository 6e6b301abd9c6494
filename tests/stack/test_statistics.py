"""A snapshot of a stack: typed, complete, and not changed by what happens later."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import json

import pytest

from netbridge.stack import Statistics, statistics
from netbridge.stack.link import memory_link
from netbridge.stack.stack import Stack
from tests.stack.networks import Accepted, Stacks, connected, end


async def test_a_connection_is_told_of_with_its_numbers(stacks: Stacks) -> None:
    pair = await connected(stacks, limit=100)
    pair[3].write(bytes(300_000))
    await asyncio.sleep(0.02)
    near, far = stacks.client.statistics(), stacks.server.statistics()
    (here,), (there,) = near.connections, far.connections
    assert here.local == there.remote
    assert here.remote == there.local == "10.0.0.2:80"
    assert here.state == there.state == "ESTABLISHED"
    assert here.unread == near.unread > 0
    assert there.queued > 0
    assert there.send_window < 65536
    assert there.congestion_window > 0
    assert there.round_trip > 0
    assert there.timeout >= 0.2
    assert far.tcp.bytes_out == near.tcp.bytes_in > 0
    assert near.link.mtu == 1500
    assert near.link.offload
    assert near.addresses == ("10.0.0.1/24",)
    assert near.routes is None
    before = near.tcp.segments_in
    await pair[0].readexactly(300_000)
    assert near.tcp.segments_in == before < stacks.client.statistics().tcp.segments_in
    with pytest.raises(dataclasses.FrozenInstanceError):
        near.unread = 0  # type: ignore[misc]
    await end(pair)


async def test_listeners_and_routes_and_json() -> None:
    one, _ = memory_link()
    async with Stack(one, ["10.0.0.1/24", "fd00::1/64"], routes=["10.0.0.0/8"]) as stack:
        await stack.start_server(Accepted(), None, 80)
        await stack.start_server(Accepted(), ["10.0.0.1", "fd00::1"], 81)
        now = stack.statistics()
        assert now.listeners == ("*:80", "10.0.0.1:81", "[fd00::1]:81")
        assert now.routes == ("10.0.0.0/8",)
        read = json.loads(json.dumps(now.as_json()))
        assert set(read) == {field.name for field in dataclasses.fields(Statistics)}
        assert read["tcp"]["opened"] == 0
        assert read["listeners"] == ["*:80", "10.0.0.1:81", "[fd00::1]:81"]


def test_every_field_has_its_sentence() -> None:
    for node in ast.parse(inspect.getsource(statistics)).body:
        if isinstance(node, ast.ClassDef):
            body = node.body
            for place, part in enumerate(body):
                if isinstance(part, ast.AnnAssign):
                    told = body[place + 1]
                    assert isinstance(told, ast.Expr), ast.unparse(part)
                    assert isinstance(told.value, ast.Constant), ast.unparse(part)
