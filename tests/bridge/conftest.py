"""Both event loops for what joins the rooms: asyncio's own and uvloop, which the program runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]] | None:
    if item.path.name in {"test_session.py", "test_control.py", "test_counters.py", "test_notify.py"}:
        return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
    return None
