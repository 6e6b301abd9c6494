"""The equations notice a count that is missing, and the end of a test notices what it leaves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import fields

import pytest

from netbridge.bridge.forward.counters import FlowsNow, IcmpCounters, TcpForwardCounters, UdpCounters
from netbridge.stack.link.memory import memory_link
from netbridge.stack.stack import Stack
from netbridge.stack.vnet import NO_OFFLOAD
from tests import balance, balanced


async def test_each_counter_of_an_equation_is_missed_when_it_is_wrong() -> None:
    one, _ = memory_link()
    async with Stack(one, ["10.0.0.1/24"]) as stack:
        counted = balance.rooms(stack)
        assert balance.check(counted) == balance.check(stack.statistics().as_json()) == []
        for about in balance.STACK:
            for _, room, name in about.terms:
                wrong = {one: {field.name: getattr(it, field.name) for field in fields(it)} for one, it in
                         counted.items()}
                wrong[room][name] += 1
                assert any(sentence.startswith(about.about) for sentence in balance.check(wrong)), f"{room}.{name}"


def test_every_counter_that_is_named_exists() -> None:
    known = {"forward_tcp": TcpForwardCounters, "forward_udp": UdpCounters, "forward_icmp": IcmpCounters,
             "flows": FlowsNow}
    for about in balance.BRIDGE:
        for _, room, name in about.terms:
            if room in known:
                assert name in {field.name for field in fields(known[room])}, f"{room}.{name}"


async def test_a_packet_that_is_not_counted_is_told_with_its_sum() -> None:
    one, _ = memory_link()
    async with Stack(one, ["10.0.0.1/24"]) as stack:
        stack.packet_received(memoryview(NO_OFFLOAD + b"\x10" * 40))
        assert balance.whole_stack(stack) == []
        stack.counters.malformed -= 1
        (sentence,) = balance.whole_stack(stack)
        assert "1 = ip.packets 1" in sentence
        assert "is not 0 = 0" in sentence
        stack.counters.malformed += 1


def test_what_a_test_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "PATIENCE", 0.05)
    before = balanced.begin()
    assert balanced.end(before) == []
    end, other = os.pipe()
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="forgotten")
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=end)

    async def forgets() -> None:
        running = asyncio.ensure_future(asyncio.Event().wait())
        running.set_name("nobody waits")

    with asyncio.Runner() as runner:
        runner.run(forgets())
    told = "\n".join(balanced.end(before))
    os.close(other)
    os.close(end)
    go_on.set()
    thread.join()
    child.wait()
    assert "is left open: pipe:" in told
    assert "thread forgotten still runs" in told
    assert f"process {child.pid} is left:" in told
    assert "pending when its loop was closed: <Task pending name='nobody waits'" in told
    balanced.begin()


async def test_a_stack_that_is_closed_and_holds_something_is_told() -> None:
    one, _ = memory_link()
    async with Stack(one, ["10.0.0.1/24"]) as stack:
        pass
    assert balance.emptied(stack) == []
    stack.tcp.budget.used = 7
    assert balance.emptied(stack) == ["bytes of unread data: 7, and not 0"]
    stack.tcp.budget.used = 0
