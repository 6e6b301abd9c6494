"""What an agent may say beside packets: as much as an honest one ever does, and not more."""

from __future__ import annotations

import pytest

from netbridge.bridge.agent.frames import ACK, MAX_CONTROL, PING, FrameError, ack_frame, control_frame, frame_header
from netbridge.bridge.link import MOST_PARTS, UNREAD_ACKS, message_of
from netbridge.bridge.smalltalk import BURST, EACH, RATE, SmallTalk
from tests.bridge.agent.bench import Bench, packet


def test_a_burst_passes_and_what_follows_is_paced() -> None:
    account = SmallTalk()
    for _ in range(BURST // EACH):
        account.said(0, 100.0)
    with pytest.raises(FrameError, match="beside packets"):
        account.said(0, 100.0)
    account.said(RATE - EACH, 101.0)
    with pytest.raises(FrameError):
        account.said(0, 101.0)


def test_networks_of_a_large_target_five_times_a_second() -> None:
    account = SmallTalk()
    for number in range(600):
        account.said(200_000, 100.0 + number / 5)


@pytest.mark.parametrize("frame", [
    frame_header(PING, 8) + bytes(8), ack_frame(0), control_frame({"type": "names_changed"}),
], ids=["ping", "idle ack", "control"])  # fmt: skip
def test_a_flood_ends_the_link(frame: bytes) -> None:
    bench = Bench()
    bench.receive(frame * 10_000)
    assert not bench.lost
    bench.receive(frame * 20_000)  # in one piece, and so at one moment
    (error,) = bench.lost
    assert "broke the protocol" in str(error)


def test_acknowledgements_with_news_are_no_small_talk() -> None:
    bench = Bench()
    for _ in range(32_000):
        bench.link.send(bytes(20))
        bench.link.data_received(memoryview(ack_frame(bench.link.counters.bytes_out)))
    assert not bench.lost


@pytest.mark.parametrize("text", [
    "NaN", "Infinity", "-Infinity", "1e999", "[" * 40 + "]" * 40, "[" + "1," * MOST_PARTS + "1]",
], ids=["nan", "infinity", "minus infinity", "overflow", "nested", "parts"])  # fmt: skip
def test_what_no_agent_says_is_no_message(text: str) -> None:
    with pytest.raises(FrameError):
        message_of(memoryview(f'{{"type":"x","a":{text}}}'.encode()))


def test_the_largest_message_is_one() -> None:
    routes = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(32_000)]
    body = control_frame({"type": "routes_changed", "routes": routes})[4:]
    assert MAX_CONTROL // 3 < len(body) <= MAX_CONTROL
    assert message_of(memoryview(body))["routes"] == routes


def test_who_reads_nothing_gets_no_acknowledgements_piled_up() -> None:
    """They are held back while the channel takes nothing, and the newest is sent when it does."""
    bench = Bench()
    bench.channel.room = False
    for _ in range(5000):
        bench.receive(packet(bytes(20_000)))
    sent = [kind for kind, _ in bench.channel.frames() if kind == ACK]
    assert len(sent) == UNREAD_ACKS
    assert bench.link.counters.acks_withheld >= 5000 - UNREAD_ACKS
    bench.channel.room = True
    bench.link.channel_ready()
    assert [payload for kind, payload in bench.channel.frames() if kind == ACK] == [ack_frame(5000 * 20_000)[4:]]
