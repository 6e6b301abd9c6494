"""One voice: every failure written in the sources is told whole, and every command it names is one."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cyclopts
import pytest

from netbridge.bridge import errors
from netbridge.cli.program import app
from netbridge.cli.up import joined

ROOT = Path(__file__).resolve().parents[2]
FAILURES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.BridgeError)
}
COMMAND = re.compile(r"`(?:sudo )?netbridge ([^`]*)`")
NAMES = "up|down|status|list|doctor|trace|capture|connect|forward|socks|service|ssh-config|config|completion|link"
BARE = re.compile(rf"(?<![`\w/.-])(?<!`sudo )netbridge (?:{NAMES})\b")


@dataclass(frozen=True)
class Told:
    """A failure where it is raised."""

    place: str
    sentences: tuple[str | None, ...]
    """What, why, what to do as far as they stand in the source; `…` for what is put in; None: made elsewhere."""

    def __str__(self) -> str:
        return self.place


def sentence(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str()):
            return str(node.value)
        case ast.JoinedStr():
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def sources() -> Iterator[tuple[str, ast.Module]]:
    for room in ("bridge", "cli"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if "agent" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def failures() -> list[Told]:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAILURES:
                if node.args and not any(isinstance(argument, ast.Starred) for argument in node.args):
                    found.append(Told(f"{name}:{node.lineno}", tuple(map(sentence, node.args))))
    return found


@pytest.mark.parametrize("told", failures(), ids=str)
def test_it_says_what_why_and_what_to_do(told: Told) -> None:
    if told.sentences == (None,):
        pytest.fail("it is made of one text that nobody can see here")
    assert len(told.sentences) == 3, told.sentences
    for text in told.sentences:
        assert text is None or text.strip(), f"a sentence is empty: {told.sentences}"
    what, why, todo = told.sentences
    assert what is None or what.endswith((".", "…")), what
    assert why is None or why.endswith((".", "…", ")")), why
    assert todo is None or not todo.startswith("See --"), todo


def texts() -> list[tuple[str, str]]:
    """Every text in the sources that is no docstring."""
    found = []
    for name, tree in sources():
        silent = {
            id(node.value) for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.expr) and id(node) not in silent | inner and (text := sentence(node)):
                found.append((f"{name}:{node.lineno}", text))
    return found


def test_commands_stand_in_backticks() -> None:
    """But for the reason of a stop, usage, comments in files that are written, and roff, which has marks of its own."""
    named = [
        f"{place}: {text}" for place, text in texts()
        if BARE.search(re.sub(r"`[^`]*`", "", text)) and " " in text and "manpage" not in place
        and not text.startswith(("asked by", "# ", "#compdef", "Usage: "))
    ]
    assert not named, "\n".join(named)


def test_commands_that_are_named_are_commands() -> None:
    seen = 0
    for place, text in texts():
        for found in COMMAND.findall(text):
            words = shlex.split(re.split(r" (?:--|\|) ", found)[0].replace("…", "x").replace("COMMAND --help", "up"))
            try:
                app.parse_args(joined(words), exit_on_error=False, print_error=False)
            except cyclopts.MissingArgumentError:
                pass  # only its name is said
            except cyclopts.CycloptsError as error:
                pytest.fail(f"{place}: {found}: {error}")
            seen += 1
    assert seen > 10
