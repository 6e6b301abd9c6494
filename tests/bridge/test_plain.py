"""Text from elsewhere becomes harmless in whatever shape it comes."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from netbridge.bridge import events
from netbridge.bridge.errors import BridgeError
from netbridge.bridge.plain import DEPTH, LINE_MAX, clean, harmless

EVIL = "evil\x1b]0;owned\x07\x9b31m\x7f\u202e\u2066\u2028\udc80"
SHOWN = "evil\\x1b]0;owned\\x07\\x9b31m\\x7f\\u202e\\u2066\\u2028\\udc80"


@pytest.mark.parametrize("plane", range(0, sys.maxunicode, 0x10000))
def test_characters_of_every_plane(plane: int) -> None:
    """What is left is no control, no format and no separator of lines, whatever Unicode calls them."""
    for number in range(plane, plane + (0x3000 if plane else 0x10000)):
        shown = clean(chr(number))
        for character in shown:
            assert unicodedata.category(character)[0] != "C", hex(number)
            assert character not in "\u2028\u2029", hex(number)


def test_values_of_every_shape() -> None:
    given = {EVIL: [EVIL, (EVIL, 1, None, True, 0.5), {"a": EVIL}], "plain": "plain"}
    assert harmless(given) == {SHOWN: [SHOWN, (SHOWN, 1, None, True, 0.5), {"a": SHOWN}], "plain": "plain"}
    event = events.Captured((events.Network("10.0.0.0/8", EVIL),))
    assert harmless(event) == events.Captured((events.Network("10.0.0.0/8", SHOWN),))
    plain = events.Lost("plain")
    assert harmless(plain) is plain
    assert len(harmless(["x" * 100_000])[0]) == LINE_MAX + 1


def test_what_is_nested_too_deeply_is_no_message() -> None:
    value: object = "x"
    for _ in range(DEPTH):
        value = [value]
    assert harmless(value) == value
    with pytest.raises(ValueError, match="deep"):
        harmless([value])


def test_a_failure_is_harmless_to_whoever_shows_it() -> None:
    error = BridgeError(EVIL, EVIL, EVIL)
    assert (error.what, error.why, error.todo) == (SHOWN, SHOWN, SHOWN)
    assert str(error) == f"{SHOWN} {SHOWN} {SHOWN}"
