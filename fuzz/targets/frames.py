"""A stream gives the same frames, and ends by the same error, whole and cut at every byte."""

from __future__ import annotations

from netbridge.bridge.agent.frames import CONTROL, Decoder, FrameError, parse_control


def _decoded(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
    decoder, frames = Decoder(), []
    try:
        for piece in pieces:
            for kind, payload in decoder.feed(memoryview(piece)):
                frames.append((kind, bytes(payload)))
    except FrameError:
        return frames, True
    return frames, False


def run(data: bytes) -> object:
    frames, refused = _decoded([data])
    assert _decoded([data[at : at + 1] for at in range(len(data))]) == (frames, refused)
    middle = len(data) // 2
    assert _decoded([data[:middle], b"", data[middle:]]) == (frames, refused)
    kinds = []
    for kind, payload in frames:
        if kind == CONTROL:
            try:
                message = parse_control(memoryview(payload))
            except FrameError:
                kinds.append("bad control")
                continue
            assert isinstance(message["type"], str)
        kinds.append(str(kind))
    return tuple(kinds[:4]), refused
