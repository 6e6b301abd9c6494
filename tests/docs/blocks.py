"""The fenced blocks of README.md and docs/, and what is to be done with each.

A block of commands (`console`, `sh`) stands below a comment that says how it is tested:

    <!-- world -->                 every command is run, in the test bed (tests/net/test_documentation.py)
    <!-- here -->                  every command is run on this machine
    <!-- parsed: WHY -->           what cannot be run here is given to the real parsers, of netbridge, make, gh
    <!-- make -->                  `make --dry-run`: the verbs themselves are what CI runs

In a `console` block a command follows a prompt, and what it prints follows the command: `$` is this machine,
`codespace$` the codespace. `…` stands for anything, alone on its line for any lines. All that is printed is compared.
`# …` is a remark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("console", "sh")
DATA = ("toml", "json", "yaml", "python", "text", "ini")
"""Languages of blocks that need no mark: `text` is a picture or an output, the others are read or run by a test."""
MARKS = ("world", "here", "parsed", "make")
_FENCE = re.compile(r"^( *)(`{3,})(\S*)\s*$")
_MARK = re.compile(r"^ *<!-- (\w+)(?:: (.+))? -->$")
_PROMPT = re.compile(r"^(codespace)?\$ (.*)$")


@dataclass(frozen=True)
class Step:
    """One command and what it is shown to print."""

    command: str
    inside: bool
    """Typed in the codespace."""
    expected: tuple[str, ...] | None
    """Lines; None where nothing is shown."""

    def pattern(self) -> re.Pattern[str]:
        """What the output has to match."""
        made = ""
        for line in self.expected or ("…",):
            if line == "…":
                made += r"(?:[^\n]*\n)*?"
            else:
                made += r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
        return re.compile(made)


@dataclass
class Block:
    """One fenced block."""

    file: str
    line: int
    language: str
    mark: str
    why: str
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def steps(self) -> list[Step]:
        """The commands of a block of them."""
        found: list[Step] = []
        for line in self.text.replace("\\\n", "").splitlines():
            if self.language == "sh":
                if command := without_remark(line):
                    found.append(Step(command, inside=False, expected=None))
            elif prompt := _PROMPT.match(line):
                found.append(Step(without_remark(prompt[2]), inside=bool(prompt[1]), expected=()))
            elif found:
                shown = found[-1].expected or ()
                found[-1] = Step(found[-1].command, inside=found[-1].inside, expected=(*shown, line))
            else:
                raise AssertionError(f"{self}: it begins with what is no command: {line!r}")
        return found


def without_remark(command: str) -> str:
    """A line without the remark at its end."""
    return re.sub(r"(^|\s+)# .*$", "", command).strip()


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """Every fenced block of every document."""
    found: list[Block] = []
    for path in documents():
        name = path.relative_to(ROOT).as_posix()
        mark, why, fence = "", "", ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            border = _FENCE.match(line)
            if fence:
                if line.strip() == fence.strip():
                    fence, mark, why = "", "", ""
                else:
                    found[-1].lines.append(line.removeprefix(" " * (len(fence) - len(fence.lstrip()))))
            elif border:
                fence = border[1] + border[2]
                found.append(Block(name, number, border[3], mark, why))
            elif said := _MARK.match(line):
                mark, why = said[1], said[2] or ""
            elif line.strip():
                mark, why = "", ""
        assert not fence, f"{name}: a fence is not closed"
    return found


def marked(mark: str) -> list[Block]:
    return [block for block in blocks() if block.mark == mark]
