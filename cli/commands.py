"""The commands as data: what the man page, the completion of shells and the example configuration are made from."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cyclopts

from netbridge.bridge import values
from netbridge.bridge.options import Options, key_of

_VALUES = {
    "route": "CIDR", "exclude": "CIDR", "dns-domain": "SUFFIX", "allow": "CIDR[:PORTS]", "deny": "CIDR[:PORTS]",
    "limit": "NAME=VALUE", "grace": "SECONDS", "ping-interval": "SECONDS", "mtu": "BYTES", "log-size": "SIZE",
    "pcap-size": "SIZE", "metrics": "[ADDRESS:]PORT", "codespace": "NAME", "name": "NAME", "user": "USER",
    "port": "PORT", "listen": "[ADDRESS:]PORT", "target": "TARGET", "filter": "WORDS", "loss": "PERCENT",
    "delay": "MILLISECONDS", "reorder": "PERCENT", "rate": "BITS", "seed": "NUMBER", "seconds": "SECONDS",
    "tun": "NAME", "address": "CIDR",
}
"""What stands for the value of an option whose value is neither a choice nor a file."""
_FILES = {"config", "http", "write"}
"""Options that name a file and are no settings."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One option, or one word that has its place."""

    names: tuple[str, ...]
    """`--route`, `-r`, what undoes it (`--no-all`) included; of a word its name in capitals."""
    help: str
    value: str
    """What stands for its value in a text; empty for a flag."""
    choices: tuple[str, ...]
    is_file: bool
    repeated: bool
    required: bool

    @property
    def is_option(self) -> bool:
        """It begins with a dash."""
        return self.names[0].startswith("-")


@dataclass(frozen=True, slots=True)
class Command:
    """One command that can be run, or a family of them."""

    path: tuple[str, ...]
    """Its words behind `netbridge`."""
    summary: str
    text: str
    """All paragraphs, the summary first, without the parameters' section."""
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]
    usage: str
    """What follows its name, where that was written by hand; empty where it can be told from the arguments."""
    takes_command: bool
    """`-- COMMAND` may follow."""

    def every(self) -> Iterator[Command]:
        """This one and all below it."""
        yield self
        for command in self.commands:
            yield from command.every()


def commands() -> Command:
    """The whole program."""
    from .program import app

    return _command(app, (), str(app.help))


def _command(app: cyclopts.App, path: tuple[str, ...], help: str) -> Command:
    below = [(name, app[name]) for name in app if not name.startswith("-")]
    function = app.default_command
    # What `--help` shows, and not the docstring of a command that has a text of its own in the program's list.
    text = re.split(r"\n+Parameters\n-+\n", inspect.cleandoc(help))[0]
    text = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    found = app.assemble_argument_collection(parse_docstring=True) if function else []
    return Command(
        path, summary=text.partition("\n")[0], text=text,
        arguments=tuple(_argument(item) for item in found if item.show),
        commands=tuple(_command(one, (*path, name), str(one.help)) for name, one in below if one.show),
        usage=(app.usage or "").partition(f" {path[-1]}" if path else " ")[2].strip(),
        takes_command=function is not None and "command" in inspect.signature(function).parameters,
    )


def _argument(item: Any) -> Argument:
    names: tuple[str, ...] = item.names
    option = names[0].startswith("-")
    key = names[0].lstrip("-")
    choices = tuple(item.get_choices() or ())
    is_file = key in _FILES
    for setting in dataclasses.fields(Options):
        if option and "convert" in setting.metadata and key_of(setting) == key:
            convert = setting.metadata["convert"]
            choices = choices or getattr(convert, "choices", ())
            is_file = is_file or convert is values.path
    flag = option and bool in {item.hint, *getattr(item.hint, "__args__", ())}
    value = "" if flag else "|".join(choices) or ("FILE" if is_file else _VALUES.get(key, "VALUE"))
    return Argument(
        names, " ".join((item.parameter.help or "").split()), value if option else "", choices, is_file,
        repeated=getattr(item.hint, "__origin__", None) is tuple or "list[" in str(item.hint),
        required=bool(item.required),
    )
