"""The screen as a person has it: each key, each panel, at 80×24, read as text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from netbridge.cli.ui.app import BridgeApp, Left
from netbridge.cli.ui.flows import SORTS
from tests.cli.ui.made_up import MadeUp, event, flow, question
from tests.cli.ui.seen import Seen

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(name="seen")
async def screen_under_test(request: pytest.FixtureRequest) -> AsyncIterator[Seen]:
    source = MadeUp()
    app = BridgeApp(source)
    async with app.run_test(size=getattr(request, "param", (80, 24))) as pilot:
        yield Seen(source, app, pilot)


async def test_the_header_says_what_is_bridged_and_what_went_wrong(seen: Seen) -> None:
    text = await seen.show(up=1_500_000, down=20, flows=[flow(1)], reconnects=2, dropped=3, bytes_up=5_000_000)
    first, second, third, *_ = text.splitlines()
    assert first.startswith("netbridge ssh://me@devbox (root@far)")
    assert first.rstrip().endswith("● running  up 1m01 · rtt 12.3 ms")
    assert second.startswith("↑ 1.5M/s")
    assert "█" in second
    assert "↓ 20B/s" in second
    assert third.rstrip() == "1 flow · 5.0M up, 0B down · 2 reconnects · 3 dropped · 0 denied"


async def test_flows_with_names_states_and_rates(seen: Seen) -> None:
    text = await seen.show(flows=[
        flow(7, name="db.corp.internal", bytes_up=1234, bytes_down=99_900_000, rate_up=10, rate_down=1_200_000),
        flow(8, source="172.17.0.3:1", protocol="udp", destination="[fd00::1]:53", state="half closed by codespace"),
    ])
    assert re.search(r"tcp  :40007 +db.corp.internal:5432 +open +10B +1.2M +1.2k +100M +10s", text), text
    assert re.search(r"udp  172.17.0.3:1 +\[fd00::1\]:53 +half ↑", text), text


async def test_questions_count_down(seen: Seen) -> None:
    text = await seen.show(questions=[question(1), question(2, name="no.such", rcode="NXDOMAIN", answer="", ttl=0)])
    assert re.search(r"no.such +A +NXDOMAIN +192.0.2.53 +12.3ms", text), text
    assert re.search(r"db.corp.internal +A +10.20.0.5 +(60|59)s +192.0.2.53", text), text
    assert text.index("no.such") < text.index("db.corp.internal"), "the newest stands first"


async def test_the_log_speaks_as_the_lines_do_and_shows_the_end(seen: Seen) -> None:
    entries = [event(number, "Hint", text=f"number {number}") for number in range(20)]
    entries.append(event(20, "Captured", networks=[{"network": "10.0.0.0/8", "reason": "by tun0"}]))
    entries.append({"number": 21, "time": 0.0, "level": "warning", "logger": "x", "text": "evil \x1b[2J text"})
    text = await seen.show(log=entries)
    assert "captured: 10.0.0.0/8 (by tun0)" in text
    assert "warning: x: evil \\x1b[2J text" in text
    assert "hint: number 19" in text
    assert "hint: number 1\n" not in text


async def test_an_event_of_a_newer_bridge_is_no_fault(seen: Seen) -> None:
    assert "Unheard" in await seen.show(log=[event(1, "Unheard", what=1), event(2, "Ready", target="x", more=5)])


async def test_q_stops_the_bridge_and_waits_for_its_end(seen: Seen) -> None:
    await seen.show()
    await seen.press("q")
    assert seen.source.stopped == ["q was pressed"]
    assert seen.app.is_running
    seen.source.end()
    await seen.pilot.pause()
    assert seen.app.return_value is Left.GONE


@pytest.mark.parametrize("key", ["ctrl+c", "ctrl+q"])
async def test_other_keys_that_stop(seen: Seen, key: str) -> None:
    await seen.show()
    await seen.press(key)
    assert seen.source.stopped == ["q was pressed"]
    await seen.pilot.press(key)
    assert seen.app.return_value is Left.GONE, "the second time it leaves without waiting"


async def test_ctrl_c_stops_while_a_filter_is_typed(seen: Seen) -> None:
    await seen.show()
    await seen.press("slash", "q")
    assert seen.source.stopped == []
    await seen.press("ctrl+c")
    assert seen.source.stopped


async def test_d_leaves_the_bridge_alone(seen: Seen) -> None:
    await seen.show()
    await seen.pilot.press("d")
    assert seen.app.return_value is Left.DETACHED
    assert seen.source.stopped == []


async def test_the_end_of_the_bridge_ends_the_screen(seen: Seen) -> None:
    await seen.show()
    seen.source.end()
    await seen.pilot.pause()
    assert seen.app.return_value is Left.GONE


async def test_help_lists_every_key(seen: Seen) -> None:
    await seen.show()
    text = await seen.press("question_mark")
    for key in ("q, ctrl-c", "d  detach", "ctrl-z", "tab", "enter  d", "/  filter", "s, r", "c  copy", "z  ", "p  "):
        assert key in text, key
    assert "keys" not in await seen.press("escape")


async def test_sort_and_reverse_are_wishes(seen: Seen) -> None:
    await seen.show(flows=[flow(1)])
    for name in (*SORTS[1:], SORTS[0]):
        assert f"▼ {name}" in await seen.press("s")
        assert seen.source.wishes[-1]["sort"] == name
    assert "▲ rate" in await seen.press("r")
    assert seen.source.wishes[-1]["reverse"] is True


async def test_a_filter_is_a_wish_and_filters_names_and_log_here(seen: Seen) -> None:
    await seen.show(
        flows=[flow(1)], questions=[question(1), question(2, name="other")], matching=1,
        log=[event(1, "Hint", text="about db"), event(2, "Ready", target="x")],
    )
    text = await seen.press("slash", "d", "b", "enter")
    assert seen.source.wishes[-1]["filter"] == "db"
    assert "1 match “db”" in text
    assert "other" not in text
    assert "about db" in text
    assert "ready" not in text
    assert "other" in await seen.press("escape")
    assert seen.source.wishes[-1]["filter"] == ""


async def test_details_of_a_flow_follow_it(seen: Seen) -> None:
    rows = [flow(1), flow(2, name="db.corp.internal")]
    await seen.show(flows=rows)
    text = await seen.press("down", "enter")
    assert seen.source.wishes[-1]["details"] == 2
    assert "10.20.0.2:5432  db.corp.internal" in text
    end = {"state": "ESTABLISHED", "rtt": 0.01, "rto": 0.5, "mss": 1448, "retransmitted": 3, "in_flight": 10}
    text = await seen.show(flows=rows, details={
        **rows[1], "state": "half closed by host",
        "connection": {**end, "window_there": 65000, "window_here": 131000, "queued": 0, "unread": 7},
        "socket": {**end, "descriptor": 9, "local": "10.20.0.77:1", "remote": "10.20.0.2:5432",
                   "retransmitted": 1, "congestion_window": 14480},
    })
    for said in (
        "half closed by host", "3 segments", "1 segment\n", "65.0 kB, 131.0 kB", "10.20.0.77:1 > 10.20.0.2:5432",
        "ESTABLISHED", "10.00 ms", "14.5 kB",
    ):
        assert said in re.sub(" +│? *\n", "\n", text).replace("│", ""), said
    await seen.press("escape")
    assert seen.source.wishes[-1]["details"] == 0


async def test_enter_shows_an_entry_as_a_whole(seen: Seen) -> None:
    end = "the end of it"
    long = question(1, answer="10.0.0.1, " * 9 + end, name="[/x] [red]")
    await seen.show(log=[event(1, "Hint", text="long " * 30 + end)], questions=[long])
    assert end not in seen.text
    assert end in re.sub(r"[│\s]+", " ", await seen.press("tab", "enter"))
    await seen.press("escape")
    assert end in re.sub(r"[│\s]+", " ", await seen.press("tab", "enter"))


async def test_the_cursor_stays_on_its_flow_while_others_come(seen: Seen) -> None:
    await seen.show(flows=[flow(1), flow(2), flow(3)])
    await seen.press("down")
    await seen.show(flows=[flow(9), flow(8), flow(3), flow(2), flow(1)])
    await seen.press("enter")
    assert seen.source.wishes[-1]["details"] == 2


async def test_copy_takes_the_address_of_what_is_selected(seen: Seen) -> None:
    await seen.show(flows=[flow(1, destination="[fd00::7]:443")], questions=[question(1, answer="10.9.9.9, 10.9.9.8")])
    await seen.press("c")
    assert seen.app.clipboard == "fd00::7"
    await seen.press("tab", "c")
    assert seen.app.clipboard == "10.9.9.9"
    await seen.press("shift+tab", "enter", "c")
    assert seen.app.clipboard == "fd00::7"


async def test_what_is_copied_can_be_pasted(seen: Seen) -> None:
    """An answer is written by whoever owns the name."""
    await seen.show(questions=[question(1, type="TXT", answer="TXT \x1b]0;forged\x07\nrm -rf ~")])
    text = await seen.press("tab", "c")
    assert seen.app.clipboard == r"TXT \x1b]0;forged\x07 rm -rf ~"
    assert "\x1b" not in text


async def test_zoom_shows_one_list_alone_and_all_again(seen: Seen) -> None:
    await seen.show(flows=[flow(1)], questions=[question(1)])
    text = await seen.press("tab", "z")
    assert "DNS" in text
    assert "NAT" not in text
    assert "LOG" not in text
    text = await seen.press("z")
    assert "NAT" in text
    assert "LOG" in text


async def test_pause_keeps_the_screen_still_and_goes_on(seen: Seen) -> None:
    await seen.show(flows=[flow(1)])
    assert "paused" in (await seen.press("p")).splitlines()[0]
    assert "10.20.0.5:5432" not in await seen.show(flows=[flow(5)])
    after = await seen.press("p")
    assert "10.20.0.5:5432" in after
    assert "paused" not in after


async def test_more_rows_are_wished_for_as_one_scrolls(seen: Seen) -> None:
    await seen.show(flows=[flow(number) for number in range(60)])
    before = seen.source.wishes[-1]["rows"]
    await seen.press("end")
    assert seen.source.wishes[-1]["rows"] > before  # type: ignore[operator]


@pytest.mark.parametrize("seen", [(80, 24), (40, 10), (20, 5), (200, 60)], indirect=True)
async def test_it_fits_every_terminal(seen: Seen) -> None:
    width = seen.app.size.width
    await seen.show(
        flows=[flow(1, name="a" * 80, source="[2001:db8:1234:5678:9abc:def0:1234:5678]:65535")],
        questions=[question(1, name="b" * 200, answer="2001:db8::1, " * 20)], log=[event(1, "Hint", text="c" * 300)],
    )
    assert all(len(line) == width for line in seen.lines), seen.text
    await seen.press("enter", "escape", "question_mark", "escape", "tab", "tab", "end", "home")


async def test_texts_from_over_there_cannot_move_the_cursor_or_be_markup(seen: Seen) -> None:
    text = await seen.show(
        flows=[flow(1, name="\x1b[31mred[/]\u202e")], questions=[question(1, name="[bold]x", answer="\x07\n")],
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]x" in text
