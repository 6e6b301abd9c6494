"""Linux and our stack, told the same, answer the same; where not, a list says why (:mod:`.accepted`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from tests.stack.tcp.kernel.host import Host
from tests.stack.tcp.kernel.linux_host import Kernel, LinuxHost
from tests.stack.tcp.kernel.script import Seen, Step, parse
from tests.stack.tcp.kernel.scripts import SCRIPTS
from tests.stack.tcp.kernel.stack_host import StackHost

pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


def run(host: Host, steps: Sequence[Step]) -> list[Seen]:
    try:
        return [host.take(step) for step in steps]
    finally:
        host.end()


def by_linux(kernel: Kernel, version: int, steps: Sequence[Step]) -> list[Seen]:
    for _ in range(5):
        host = LinuxHost(kernel, version)
        seen = run(host, steps)
        if not host.late:
            return seen
    raise AssertionError("this machine is too busy: five runs took so long that timers came in between")


def by_us(version: int, steps: Sequence[Step]) -> list[Seen]:
    async def inside() -> list[Seen]:
        return run(StackHost(version), steps)

    return asyncio.run(inside())


def compared(kernel: Kernel, version: int, text: str) -> list[tuple[str, Seen, Seen]]:
    lines = parse(text)
    steps = [step for _, step in lines]
    return [
        (line, theirs, ours) for (line, _), theirs, ours in
        zip(lines, by_linux(kernel, version, steps), by_us(version, steps), strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_same_answers(kernel: Kernel, name: str) -> None:
    out = []
    differs = False
    for line, theirs, ours in compared(kernel, 4, SCRIPTS[name]):
        same = theirs == ours
        differs = differs or not same
        out.append(f"{line:<32} {theirs}" if same else f"{line:<32} Linux {theirs}\n{'':32} we    {ours}")
    assert not differs, "\n".join(["", *out])
