"""Names and connects in the agent's loop: nothing blocks it, the first address that answers wins."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netbridge.bridge.agent import dialling
from netbridge.bridge.agent.dialling import Address, Dial, Names, look_up
from netbridge.bridge.agent.loop import Loop
from tests.faults.seam import Fault, Seam

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def run(loop: Loop, begin: Callable[[Callable[..., None]], None], seconds: float = 5) -> Any:
    """Run until `begin`'s callback was called; its arguments."""
    results: list[Any] = []

    def done(*arguments: Any) -> None:
        results.append(arguments)
        loop.stop()

    timer = loop.call_later(seconds, loop.stop)
    begin(done)
    if not results:
        loop.run()
    timer.cancel()
    assert len(results) == 1
    return results[0]


def dial(loop: Loop, addresses: list[Address]) -> tuple[socket.socket | None, OSError | None]:
    loop._running = True
    reached: tuple[socket.socket | None, OSError | None] = run(
        loop, lambda done: Dial(loop, addresses, done).start()
    )
    return reached


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_first_that_answers(loop: Loop, port: int) -> None:
    right: Address = (V4, ("127.0.0.1", port))
    refused: Address = (V4, ("127.0.0.2", port))
    unreachable: Address = (V6, ("2001:db8::1", port, 0, 0))  # or silent
    for addresses in ([right], [refused, right], [unreachable, right]):
        reached, error = dial(loop, addresses)
        assert error is None
        assert reached is not None
        assert reached.getpeername()[1] == port
        assert not reached.getblocking()
        reached.close()


def test_a_silent_one_costs_a_moment(loop: Loop, port: int) -> None:
    with socket.socket() as full:  # a listener whose backlog is full answers no SYN
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        reached, _ = dial(loop, [(V4, full.getsockname()), (V4, ("127.0.0.1", port))])
        assert reached is not None
        assert reached.getpeername()[1] == port
        reached.close()
        for caller in callers:
            caller.close()


def test_the_error_that_says_most(loop: Loop, port: int) -> None:
    refused: Address = (V4, ("127.0.0.2", port))
    no_family: Address = (99, ("x", 1))
    for addresses in ([refused], [no_family, refused], [refused, no_family]):
        reached, error = dial(loop, addresses)
        assert reached is None
        assert error is not None
        assert error.errno == errno.ECONNREFUSED
    assert dial(loop, [])[1] is not None


def test_given_up_it_says_nothing(loop: Loop, port: int) -> None:
    said: list[Any] = []
    attempt = Dial(loop, [(V4, ("127.0.0.1", port))], lambda *it: said.append(it))
    attempt.start()
    attempt.close()
    loop.call_later(0.05, loop.stop)
    loop.run()
    assert said == []


def test_an_address_in_text_is_asked_of_nobody(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(loop)
    monkeypatch.setattr(threading, "Thread", None)
    answers: list[Any] = []
    names.resolve("127.0.0.1", 80, lambda *it: answers.append(it))
    names.resolve("::1", 80, lambda *it: answers.append(it))
    assert answers == [([(V4, ("127.0.0.1", 80))], None), ([(V6, ("::1", 80, 0, 0))], None)]
    names.close()


def test_a_name_is_asked_beside_the_loop(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(host: str, port: int, flags: int = 0) -> list[Address]:
        if flags:
            return look_up(host, port, flags)
        asked.set()
        assert go.wait(5)
        return [(V4, ("192.0.2.1", port))]

    monkeypatch.setattr(dialling, "look_up", slow)
    names = Names(loop)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            go.set()
        loop.call_later(0.005, tick)

    tick()
    addresses, error = run(loop, lambda done: names.resolve("slow.test", 80, done))
    assert (addresses, error) == ([(V4, ("192.0.2.1", 80))], None)
    assert len(ticks) >= 3
    assert asked.is_set()
    names.close()


def test_names_that_are_none(loop: Loop) -> None:
    names = Names(loop)
    for name in ("nowhere.invalid", "x" * 300, "a..b", "ü" * 70):
        loop._running = True
        addresses, error = run(loop, lambda done, name=name: names.resolve(name, 80, done), 20)  # type: ignore[misc]
        assert addresses == []
        assert isinstance(error, socket.gaierror)
    names.close()


def test_many_names_wait_their_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Event()

    def counted(host: str, port: int, flags: int = 0) -> list[Address]:
        nonlocal now, most
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "not in text")
        with lock:
            now += 1
            most = max(most, now)
            if now == dialling.THREADS:
                together.set()
        assert together.wait(5)
        with lock:
            now -= 1
        return []

    monkeypatch.setattr(dialling, "look_up", counted)
    names, answered = Names(loop), 0

    def one(_addresses: list[Address], _error: OSError | None) -> None:
        nonlocal answered
        answered += 1
        if answered == 40:
            loop.stop()

    for number in range(40):
        names.resolve(f"name{number}", 80, one)
    loop.call_later(10, loop.stop)
    loop.run()
    assert (answered, most) == (40, dialling.THREADS)
    names.close()


def test_an_answer_whose_word_was_lost_is_heard(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread's byte takes memory of the kernel's; without it the name was asked for ever."""
    monkeypatch.setattr(dialling, "UNHEARD", 0.01)
    names = Names(loop)
    with Seam() as seam:
        seam.arm(Fault("bridge.agent.dialling:_ask:send", "ENOBUFS"))
        addresses, error = run(loop, lambda done: names.resolve("localhost", 7, done))
        assert (addresses[0][1][1], error, seam.hits) == (7, None, 1)
    names.close()
