"""The page about events is that of these events."""

from __future__ import annotations

import json
import re
from pathlib import Path

from netbridge.cli import render
from netbridge.cli.eventtable import lines

from .test_render import EXAMPLES

PAGE = Path(__file__).parents[2] / "docs/events.md"


def test_it_is_up_to_date() -> None:
    assert PAGE.read_text() == "\n".join(lines()).rstrip("\n") + "\n", "run: make man"


def test_each_event_has_the_fields_that_the_page_names() -> None:
    told = dict(re.findall(r"^## (\w+)\n\n.+\n\n((?:- `.+\n)+)", PAGE.read_text(), re.MULTILINE))
    for event, _ in EXAMPLES:
        written = json.loads(render.record(event))
        named = re.findall(r"^- `(\w+)`", told[written["event"]], re.MULTILINE)
        assert written.keys() == {"time", "event", *named}
