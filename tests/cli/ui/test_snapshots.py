"""Whole screens, compared with what they were: tests/cli/ui/snapshots/NAME.txt.

A changed screen is looked at, and then taken with NETBRIDGE_TEST_SNAPSHOTS=take. The line of styles below each screen
says how often a style is used, so a lost colour is seen as well.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from netbridge.cli.ui import model
from netbridge.cli.ui.app import BridgeApp
from tests.cli.ui import made_up
from tests.cli.ui.made_up import MadeUp, event, flow, question
from tests.cli.ui.seen import Seen

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
FOLDER = Path(__file__).with_name("snapshots")


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 5000.0)
    monkeypatch.setattr(model, "time", clock)
    monkeypatch.setattr(made_up, "time", clock)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


async def afternoon(seen: Seen) -> None:
    """A bridge at work."""
    rows = [
        flow(1, name="db.corp.internal", bytes_up=8_200, bytes_down=1_250_000, rate_up=120, rate_down=95_000),
        flow(2, protocol="udp", destination="10.20.0.53:123", state="answered", bytes_up=48, bytes_down=48),
        flow(3, source="172.17.0.2:51234", destination="[fd00:20::5]:443", name="wiki.corp.internal", rate_up=3),
        flow(4, state="connecting", destination="10.20.9.9:22"),
        flow(5, state="reset by host"), flow(6, state="closed", bytes_up=310, bytes_down=2_048),
        flow(7, protocol="icmp", source="198.18.0.2:7", destination="10.20.0.1:0", state="stream"),
    ]
    for number in range(12):
        await seen.show(up=number * 1000, down=(number % 4) * 250_000)
    await seen.show(
        flows=rows, up=12_000, down=800_000, bytes_up=9_100_000, bytes_down=2_400_000_000, dropped=2, denied=1,
        questions=[
            question(1), question(2, name="wiki.corp.internal", type="AAAA", answer="fd00:20::5", ttl=3600),
            question(3, name="nowhere.corp.internal", rcode="NXDOMAIN", answer="", ttl=10),
            question(4, name="slow.corp.internal", rcode="SERVFAIL", answer="", ttl=0, source="none", seconds=5.0),
        ],
        log=[
            event(1, "Ready", target="ssh://me@devbox"),
            event(2, "FlowDenied", protocol="tcp", destination="169.254.169.254", port=80, reason="link-local"),
            event(3, "Interrupted", why="no answer for 8 s", grace=600.0),
            {"number": 4, "time": 0.0, "level": "warning", "logger": "netbridge.x", "text": "something is odd"},
        ],
    )


def compare(seen: Seen, name: str) -> None:
    styles: Counter[str] = Counter()
    for strip in seen.app.screen._compositor.render_strips():
        for segment in strip:
            if segment.style is not None and segment.text.strip():
                shown = {"bold", "dim", "reverse", "underline"}
                words = [word for word in sorted(shown) if getattr(segment.style, word)]
                color = segment.style.color.name if segment.style.color else "default"
                styles[" ".join([*words, color])] += 1
    text = "\n".join(line.rstrip() for line in seen.lines)
    text += "\n---\n" + "\n".join(f"{count} {style}" for style, count in sorted(styles.items())) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("NETBRIDGE_TEST_SNAPSHOTS") == "take":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "size", "keys"), [
    ("80x24", (80, 24), []),
    ("140x40", (140, 40), []),
    ("details", (80, 24), ["enter"]),
    ("help", (80, 24), ["question_mark"]),
    ("names-alone", (100, 16), ["tab", "z"]),
    ("filtered", (80, 24), ["slash", *"corp"]),
])
async def test_the_screen_is_as_it_was(name: str, size: tuple[int, int], keys: list[str]) -> None:
    source = MadeUp()
    app = BridgeApp(source)
    async with app.run_test(size=size) as pilot:
        app.filter_box.cursor_blink = False
        seen = Seen(source, app, pilot)
        await afternoon(seen)
        await seen.press(*keys)
        compare(seen, name)


async def test_without_colour_nothing_is_told_by_colour_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    source = MadeUp()
    app = BridgeApp(source)
    async with app.run_test(size=(80, 24)) as pilot:
        seen = Seen(source, app, pilot)
        await afternoon(seen)
        assert app.no_color
        for word in ("● running", "↑ ", "↓ ", "reset", "connect", "closed", "NXDOMAIN", "SERVFAIL", "2 dropped", "▶"):
            assert word in seen.text, word
