"""Whatever a client says to the stub over there is ignored, or answered at most once: by its own id and question."""

from __future__ import annotations

from typing import Any
from unittest import mock

from fuzz.repairs import each
from netbridge.bridge.agent import asking, dnsmsg, stub
from netbridge.bridge.agent.loop import Timer


class _Door:
    """Where nobody can knock but `run`."""

    address = "127.83.0.1"

    def __init__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


class _Loop:
    """A loop in which no time passes."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, _delay: float, callback: Any) -> Timer:
        self.timers.append(Timer(callback))
        return self.timers[-1]

    def pass_time(self) -> bool:
        """Let the latest timer fire; whether there is one."""
        timer = next((timer for timer in reversed(self.timers) if timer.callback is not None), None)
        if timer is None or timer.callback is None:
            return False
        callback, timer.callback = timer.callback, None
        callback()
        return True


class _Attempt:
    """A question to a nameserver that answers (its reply has more than a byte), is silent (one), or is not there."""

    replies: list[bytes]
    open: list[_Attempt]

    def __init__(self, _loop: Any, server: str, query: bytes, question: Any, *, done: Any, **_: Any) -> None:
        assert query[dnsmsg.HEADER_LEN :].lower().startswith(question.section)
        self.server = server
        self.done = done
        self.reply = self.replies.pop(0) if self.replies else b""

    def start(self) -> bool:
        if len(self.reply) > 1:
            self.open.append(self)
        return bool(self.reply)

    def close(self) -> None:
        if self in self.open:
            self.open.remove(self)


def run(data: bytes) -> object:
    query, *_Attempt.replies = each(data) or [b""]
    _Attempt.open = []
    loop: Any = _Loop()
    answers: list[bytes] = []
    with mock.patch.object(stub, "Door", _Door), mock.patch.object(asking, "Attempt", _Attempt):
        made = stub.Stub(loop, "auto", ["198.18.0.1"], ["127.0.0.53", "192.0.2.1"], ["corp.example"])
        asked = made._ask(query, "client", False, answers.append)
        while asked is not None and not answers:
            if _Attempt.open:
                attempt = _Attempt.open.pop(0)
                attempt.done(attempt, attempt.reply, dnsmsg.parse(attempt.reply))
            else:
                assert loop.pass_time()
        made.close()
    assert len(answers) == (asked is not None)
    if not answers:
        return "ignored"
    assert answers[0][:2] == query[:2]
    parsed, question = dnsmsg.parse(answers[0]), dnsmsg.parse(query)
    assert parsed is None or question is None or parsed.question in (None, question.question)
    return None if parsed is None else (parsed.rcode, parsed.response, len(loop.timers))
