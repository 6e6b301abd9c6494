"""Whatever a client says to the stub over there is ignored, or answered at most once: by its own id and question."""

from __future__ import annotations

from typing import Any
from unittest import mock

from fuzz.repairs import each
from netbridge.bridge.agent import dnsmsg, stub
from netbridge.bridge.agent.loop import Timer


class _Socket:
    """The stub's own socket, or its listener."""

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        pass


class _Loop:
    """A loop in which no time passes."""

    def __init__(self) -> None:
        self.timers: list[Any] = []

    def watch(self, *_: Any) -> None:
        pass

    def unwatch(self, *_: Any) -> None:
        pass

    def call_later(self, _delay: float, callback: Any) -> Any:
        timer = Timer(callback)
        self.timers.append(timer)
        return timer


class _Attempt:
    """A question to a nameserver that has its answer at hand, or is not there, or silent."""

    replies: list[bytes]

    def __init__(self, _loop: Any, server: str, query: bytes, question: Any, *, stream: bool, done: Any) -> None:
        assert query[dnsmsg.HEADER_LEN :].lower().startswith(question.section)
        self.server = server
        self.done = done
        self.reply = self.replies.pop(0) if self.replies else b""

    def start(self) -> bool:
        return bool(self.reply)

    def close(self) -> None:
        pass


def run(data: bytes) -> object:
    query, *_Attempt.replies = each(data) or [b""]
    loop: Any = _Loop()
    answers: list[bytes] = []
    listening = "127.83.0.1", _Socket(), _Socket()
    with mock.patch.multiple(stub, _listen=lambda: listening, Attempt=_Attempt):
        made = stub.Stub(loop, "auto", ["198.18.0.1"], ["127.0.0.53", "192.0.2.1"], ["corp.example"])
        exchange = made._ask(query, "client", stream=False, answer=answers.append)
        while exchange is not None and not answers:
            attempts: list[Any] = list(exchange._attempts)
            replying = [attempt for attempt in attempts if len(attempt.reply) > 1]
            if replying:
                attempt = replying[0]
                reply, attempt.reply = attempt.reply, b""
                attempt.done(attempt, reply, dnsmsg.parse(reply))
                continue
            timer = next(timer for timer in reversed(loop.timers) if timer.callback is not None)
            callback, timer.callback = timer.callback, None
            callback()
        made.close()
    assert len(answers) <= 1
    assert (exchange is None) == (not answers)
    if not answers:
        return "ignored"
    assert answers[0][:2] == query[:2]
    parsed = dnsmsg.parse(answers[0])
    return None if parsed is None else (parsed.rcode, parsed.response, len(loop.timers))
