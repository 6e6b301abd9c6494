"""Make text that came from elsewhere harmless for a terminal.

Host names, error texts and the last lines of a remote standard error may carry escape sequences that move the cursor,
retitle the window or forge lines. Every control, format (bidirectional overrides, zero-width) and separator character
is shown as its escape instead.
"""

from __future__ import annotations

import unicodedata

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
LINE_MAX = 2000
"""Characters of one remote text; the rest would only push away what matters."""


def clean(text: str) -> str:
    """`text` as one line without characters a terminal acts upon."""
    if len(text) > LINE_MAX:
        text = text[:LINE_MAX] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t\r":
        return " "
    if unicodedata.category(character) in _UNSAFE:
        return character.encode("unicode_escape").decode("ascii")
    return character
