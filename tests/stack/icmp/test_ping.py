from __future__ import annotations

import asyncio

import pytest
from scapy.layers.inet import ICMP, IP

from netbridge.stack.icmp.ping import ping
from tests.stack.fake import CLIENT4, GATEWAY4, FakeStack, packed, whole


async def test_seconds_until_the_reply() -> None:
    stack = FakeStack()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ping(stack.icmp, packed(GATEWAY4), packed(CLIENT4), size=16))
        await asyncio.sleep(0.01)
        (request,) = stack.sent()
        assert len(request[ICMP].payload) == 16
        request[ICMP].type = 0
        del request[ICMP].chksum
        stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / request[ICMP]))
    assert 0.01 <= task.result() < 1.0


async def test_nothing_comes() -> None:
    stack = FakeStack()
    with pytest.raises(TimeoutError):
        await ping(stack.icmp, packed(GATEWAY4), packed(CLIENT4), timeout=0.01)
    assert not stack.icmp._pings


async def test_an_error_comes() -> None:
    stack = FakeStack()

    async def refuse() -> None:
        await asyncio.sleep(0)
        (request,) = stack.sent()
        stack.icmp.packet_received(whole(IP(src=CLIENT4, dst=GATEWAY4) / ICMP(type=3, code=1) / request))

    async with asyncio.TaskGroup() as group:
        group.create_task(refuse())
        with pytest.raises(OSError, match="No route to host"):
            await ping(stack.icmp, packed(GATEWAY4), packed(CLIENT4))
    assert not stack.icmp._pings
