"""Frames: any stream of frames comes out as it went in, however it is cut; anything else ends in a FrameError."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netbridge.bridge.agent.frames import (
    ACK,
    CONTROL,
    HEADER_LEN,
    MAX_CONTROL,
    MAX_PACKET,
    PACKET,
    PING,
    PONG,
    Decoder,
    FrameError,
    ack_frame,
    control_frame,
    frame_header,
    parse_control,
)

Frame = tuple[int, bytes]

FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(PACKET), st.binary(min_size=30, max_size=200)),
        st.tuples(st.just(PACKET), st.sampled_from([30, 1510, 65545, MAX_PACKET]).map(bytes)),
        st.tuples(st.just(CONTROL), st.binary(min_size=2, max_size=100)),
        st.tuples(st.sampled_from([ACK, PING, PONG]), st.binary(min_size=8, max_size=8)),
    ),
    max_size=12,
)


def stream(frames: Sequence[Frame]) -> bytes:
    return b"".join(frame_header(kind, len(payload)) + payload for kind, payload in frames)


def decoded(pieces: Sequence[bytes]) -> list[Frame]:
    decoder = Decoder()
    return [(kind, bytes(payload)) for piece in pieces for kind, payload in decoder.feed(memoryview(piece))]


@given(FRAMES)
def test_whole(frames: list[Frame]) -> None:
    assert decoded([stream(frames)]) == frames


@given(FRAMES, st.lists(st.integers(0, 200_000), max_size=20))
def test_cut_anywhere(frames: list[Frame], cuts: list[int]) -> None:
    data = stream(frames)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert decoded([data[a:b] for a, b in pairwise(edges)]) == frames


@settings(max_examples=25, deadline=None)
@given(FRAMES)
def test_byte_by_byte(frames: list[Frame]) -> None:
    data = stream(frames)
    assert decoded([data[i : i + 1] for i in range(len(data))]) == frames


def test_a_control_frame_larger_than_any_packet_survives_being_cut() -> None:
    message = {"type": "setup", "routes": ["10.0.0.0/8"] * 20_000}
    frame = control_frame(message)
    tail = ack_frame(7)
    decoder = Decoder()
    found = [
        (kind, parse_control(payload) if kind == CONTROL else bytes(payload))
        for i in range(0, len(frame + tail), 4093)
        for kind, payload in decoder.feed(memoryview(frame + tail)[i : i + 4093])
    ]
    assert found == [(CONTROL, message), (ACK, tail[HEADER_LEN:])]


def test_a_whole_frame_is_a_view_of_the_piece() -> None:
    piece = memoryview(bytearray(stream([(PACKET, bytes(100)), (PACKET, bytes(50))])))
    for _kind, payload in Decoder().feed(piece):
        assert payload.obj is piece.obj


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (frame_header(0, 8), "unknown"), (frame_header(6, 8), "unknown"), (frame_header(255, 8), "unknown"),
        (frame_header(PACKET, 9), "9 bytes"), (frame_header(PACKET, MAX_PACKET + 1), "type 1"),
        (frame_header(CONTROL, MAX_CONTROL + 1), "type 2"), (frame_header(CONTROL, 1), "type 2"),
        (frame_header(ACK, 7), "type 3"), (frame_header(PING, 9), "type 4"), (frame_header(PONG, 0), "type 5"),
        (b"SSH-2.0-OpenSSH", "unknown"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [0, 1, 3])
@pytest.mark.parametrize("before", [[], [(PACKET, bytes(40))]])
def test_malformed(head: bytes, why: str, cut: int, before: list[Frame]) -> None:
    data = stream(before) + head
    at = len(data) - len(head) + cut
    decoder = Decoder()
    with pytest.raises(FrameError, match=why):
        for piece in (data[:at], data[at:]):
            for _ in decoder.feed(memoryview(piece)):
                pass


@given(st.binary(max_size=3000))
def test_arbitrary_bytes_end_in_frames_or_a_frame_error(data: bytes) -> None:
    def outcome(pieces: Sequence[bytes]) -> object:
        decoder = Decoder()
        found: list[object] = []
        try:
            for piece in pieces:
                found += [(kind, bytes(payload)) for kind, payload in decoder.feed(memoryview(piece))]
        except FrameError as error:
            return str(error)
        return found

    assert outcome([data]) == outcome([data[i : i + 1] for i in range(len(data))])


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"type":1}', b"nonsense", b"\xff\xfe", b'{"type":"a"', b"[" * 100_000, b'"type"']
)
def test_control_messages_that_are_none(body: bytes) -> None:
    with pytest.raises(FrameError, match="control frame"):
        parse_control(memoryview(body))


def test_a_control_message_too_large_for_a_frame_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="control message"):
        control_frame({"type": "x", "filler": "y" * MAX_CONTROL})


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_control_messages_survive(content: dict[str, object]) -> None:
    message = {**content, "type": "any"}
    (frame,) = [bytes(payload) for _kind, payload in Decoder().feed(memoryview(control_frame(message)))]
    assert parse_control(memoryview(frame)) == message == json.loads(frame)
