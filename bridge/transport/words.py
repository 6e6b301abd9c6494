"""What helper programs say, for errors: found by patterns, cut, and made a sentence. All of it is untrusted."""

from __future__ import annotations

import re

from ..user import User

MAX_TEXT = 300
"""Characters of a program's own words in an error."""


def any_of(*texts: str) -> re.Pattern[str]:
    """A pattern that finds any of the patterns, in whatever case."""
    return re.compile("|".join(texts), re.IGNORECASE)


def said(program: str, text: str, pattern: re.Pattern[str] | None = None) -> str:
    """The last line of `text` that fits `pattern`, as a sentence of the program's."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if pattern is None or pattern.search(line)), "")
    if not line:
        return f"{program} gave no reason."
    end = "" if line[:MAX_TEXT].endswith((".", "?", "!")) else "."
    return f"{program} says: {line[:MAX_TEXT]}{end}"


def path_of(user: User) -> str:
    """Whose PATH a program was looked for on."""
    return f"the PATH of {user.name}" if user.differs else "the PATH"
