"""What people are shown of texts from elsewhere: one look for all targets whose inputs are texts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from netbridge.bridge.errors import BridgeError
from netbridge.cli.render import failure

LONGEST = 8192
"""Characters of a failure on a terminal: three sentences of `cli.text.LINE_MAX`, and what `clean` makes of them."""
UNSAFE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories that a terminal acts upon, or that show as nothing: controls, formats, surrogates, separators of lines."""

_QUOTED = re.compile(r"""'[^']*'?|"[^"]*"?|[0-9]+""")

T = TypeVar("T")


def text_of(data: bytes) -> str:
    """The input as a word of the command line: what is no UTF-8 becomes lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def printed_by(data: bytes) -> str:
    """The input as a program's output is decoded."""
    return data.decode("utf-8", "replace")


def harmless(text: str) -> bool:
    """Whether a terminal does nothing with it but show it."""
    return text.isprintable() or not any(unicodedata.category(letter) in UNSAFE for letter in text)


def shown(error: BridgeError, longest: int = LONGEST) -> str:
    """The failure's first sentence, once all of it was seen to be harmless and of bounded size in both forms."""
    assert error.what
    line = failure(error, "text")
    assert harmless(line), line
    assert len(line) <= longest, len(line)
    assert json.loads(failure(error, "json"))["exit_code"] == error.exit_code
    return error.what


def refused_or(parse: Callable[[str], T], text: str) -> T | str:
    """What `parse` makes of it, or the sentence of its BridgeError; anything else it raises is a fault."""
    try:
        return parse(text)
    except BridgeError as error:
        return shown(error)


def kind(sentence: str) -> str:
    """What a sentence says, without what it quotes: a label."""
    return _QUOTED.sub("", sentence[:200])[:60]
