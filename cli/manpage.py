"""The man page, made from the commands: `make man` writes docs/netbridge.1, which the wheel puts where man looks.

mandoc's and groff's man macros (man(7)); one section of OPTIONS a command, as the commands share few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .commands import Argument, Command, commands

_EXIT_CODES = (
    ("0", "stopped as asked; with COMMAND, its own exit code"), ("1", "failure"), ("2", "usage"),
    ("3", "target not reachable or not found"), ("4", "not logged in or no permission"),
    ("5", "the target lacks something: python3, a TUN and CAP_NET_RAW, sudo"),
)
_FILES = (
    ("~/.config/netbridge/config.toml", "Settings of up; netbridge config example prints one."),
    ("$XDG_RUNTIME_DIR/netbridge", "Control sockets of running bridges; NETBRIDGE_RUNTIME_DIR says otherwise."),
)


def page() -> str:
    """The page in roff."""
    return "\n".join(_lines(commands())) + "\n"


def _lines(program: Command) -> Iterator[str]:
    yield '.\\" Made by `make man` from the commands; do not edit.'
    yield '.TH NETBRIDGE 1 "" netbridge "User Commands"'
    yield ".SH NAME"
    yield f"netbridge \\- {_text(program.summary.rstrip('.')[0].lower() + program.summary.rstrip('.')[1:])}"
    yield ".SH SYNOPSIS"
    runnable = [command for command in program.every() if command.path and not command.commands]
    for command in runnable:
        yield ".br"
        yield _synopsis(command)
    yield ".SH COMMANDS"
    for command in runnable:
        yield f".SS netbridge {' '.join(map(_text, command.path))}"
        for paragraph in command.text.split("\n\n"):
            yield ".PP"
            yield _text(paragraph)
        for argument in command.arguments:
            yield ".TP"
            yield _argument(argument)
            yield _text(argument.help or "See above.")
    yield ".SH EXIT STATUS"
    for code, meaning in _EXIT_CODES:
        yield from (".TP", f".B {code}", _text(meaning))
    yield ".SH ENVIRONMENT"
    yield _text(
        "Every option of netbridge up is also read from NETBRIDGE_NAME, the name in capitals and with underscores:"
        " NETBRIDGE_DNS_DOMAIN for --dns-domain. NETBRIDGE_CONFIG names the file of --config."
    )
    yield ".SH FILES"
    for name, meaning in _FILES:
        yield from (".TP", f".I {_text(name)}", _text(meaning))
    yield ".SH SEE ALSO"
    yield ".BR ssh (1),\n.BR gh (1),\n.BR docker (1),\n.BR tshark (1)"


def _synopsis(command: Command) -> str:
    words = [f"\\fBnetbridge {' '.join(map(_text, command.path))}\\fR"]
    if command.usage:
        return f"{words[0]} {re.sub('[A-Z]+', _placeholder, _text(command.usage.replace('…', '...')))}"
    if any(argument.is_option for argument in command.arguments):
        words.append("[\\fIOPTIONS\\fR]")
    for argument in command.arguments:
        if not argument.is_option:
            word = f"\\fI{_text(argument.names[0])}\\fR" + ("..." if argument.repeated else "")
            words.append(word if argument.required else f"[{word}]")
    if command.takes_command:
        words.append("[\\-\\- \\fICOMMAND\\fR...]")
    return " ".join(words)


def _placeholder(word: re.Match[str]) -> str:
    return f"\\fI{word[0]}\\fR"


def _argument(argument: Argument) -> str:
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in argument.names)
    return f"{names} \\fI{_text(argument.value)}\\fR" if argument.value else names


def _text(text: str) -> str:
    """Text as roff shows it: no escapes, no requests, hyphens that can be copied, `words` in bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    print(page(), end="")
