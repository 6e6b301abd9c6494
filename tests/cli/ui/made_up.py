"""A bridge that only the screen believes in: the frames of a feed, and a note of what was wished for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

Frame = dict[str, Any]


class MadeUp:
    """A source of frames. A test gives them one by one with `send`."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.wishes: list[dict[str, object]] = []
        self.stopped: list[str] = []

    async def frames(self) -> AsyncIterator[Frame]:
        while (frame := await self.queue.get()) is not None:
            yield frame

    def wish(self, **fields: object) -> None:
        self.wishes.append(fields)

    def stop(self, why: str) -> None:
        self.stopped.append(why)

    def send(self, **fields: Any) -> None:
        self.queue.put_nowait(frame(**fields))

    def end(self) -> None:
        self.queue.put_nowait(None)


def flow(number: int, **fields: Any) -> Frame:
    """One row; ten seconds old when it is made."""
    return {
        "number": number, "protocol": "tcp", "source": f"198.18.0.2:{40000 + number}",
        "destination": f"10.20.0.{number}:5432", "name": "", "state": "open", "bytes_up": 0, "bytes_down": 0,
        "rate_up": 0, "rate_down": 0, "opened": time.monotonic() - 10, "last_used": time.monotonic() - 5, **fields,
    }


def question(number: int, **fields: Any) -> Frame:
    return {
        "number": number, "time": time.monotonic(), "name": "db.corp.internal", "type": "A", "rcode": "NOERROR",
        "answer": "10.20.0.5", "ttl": 60, "source": "192.0.2.53", "seconds": 0.0123, **fields,
    }


def event(number: int, name: str, **fields: Any) -> Frame:
    return {"number": number, "time": 0.0, "event": name, "fields": fields}


def frame(
    *, flows: list[Frame] | None = None, questions: list[Frame] | None = None, log: list[Frame] | None = None,
    details: Frame | None = None, matching: int | None = None, **header: Any,
) -> Frame:
    """One frame of the feed; everything in it that is not given is nothing much."""
    rows = flows or []
    return {
        "now": time.monotonic(),
        "bridge": {
            "target": "ssh://me@devbox", "host": "far", "user": "root", "addresses": ["198.18.0.2"], "dns": True,
        },
        "header": {
            "state": "running", "uptime": 61.0, "rtt": 0.0123, "up": 0, "down": 0, "bytes_up": 0, "bytes_down": 0,
            "flows": {"tcp": len(rows)} if rows else {}, "questions": len(questions or ()), "reconnects": 0,
            "dropped": 0, "denied": 0, **header,
        },
        "order": [row["number"] for row in rows], "rows": rows, "matching": len(rows) if matching is None else matching,
        "questions": questions or [], "log": log or [], "details": details,
    }
