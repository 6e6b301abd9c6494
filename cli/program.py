"""The command line's front door: words to a command, any failure to three sentences and an exit code.

What follows `--` is COMMAND and is cut off before the options are read, so that nothing in it is ever taken for ours.
Heavy modules (the bridge, SSH, DNS) are imported by the commands that use them: `netbridge --version` is quick.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn, TextIO

import cyclopts

from netbridge.bridge.errors import UsageError

from . import rights, standard
from .failures import peek, told, traced
from .render import failure
from .versions import versions

HELP = """Let a remote development environment reach whatever this machine reaches.

`netbridge up TARGET` makes a bridge; `netbridge COMMAND --help` says what there is to each command."""

app = cyclopts.App(
    name="netbridge", help=HELP, help_format="plaintext",
    version=versions, version_flags=["--version"],
    default_parameter=cyclopts.Parameter(show_default=False),  # texts say it where it tells something
)


def _command(place: str, words: str, help_: str, more: str = "") -> None:
    """Name a command rather than import it: its module is loaded when it is asked for.

    `words`: its name and what follows it, as the first line of its help shows them. `help_` stands in the list of
    commands and, with `more`, above its options.
    """
    name, _, rest = words.partition(" ")
    app.command(
        f"netbridge.cli.{place}", name=name, help=f"{help_}\n\n{more}" if more else help_,
        usage=f"Usage: netbridge {name} {rest}".rstrip(),
    )


_command(
    "up:up", "up [OPTIONS] [TARGET] [-- COMMAND …]", "Bridge TARGET to this machine until q, ctrl-c or COMMAND ends.",
    "What follows -- is COMMAND: it runs over there once the bridge is ready, and the bridge ends with it, with its"
    " exit status. Options can also stand in a TOML file and in the environment as NETBRIDGE_*.",
)
_command("list:list_", "list [OPTIONS]", "Show codespaces and their state, running ones first.")
_command("status:status", "status [OPTIONS] [TARGET]", "Show running bridges, their flows and counters.")
_command(
    "trace:trace", "trace [OPTIONS] HOST[:PORT]", "Show how one destination travels, and what stops it.",
    "Name, route, policy, resolver, connect. Exit status 1 when it would not work. Without a bridge, what this machine"
    " alone can say.",
)
_command(
    "doctor:doctor", "doctor [OPTIONS] [TARGET]", "Check everything a bridge needs, with the mend for each fault.",
    "Exit status 0 only when a bridge would work, else the one that `netbridge up` would end with. Settings of `up` are"
    " taken from its file and its variables. A codespace that is stopped is started, as by `up`; nothing is changed"
    " over there.",
)
_command(
    "capture:capture", "capture [OPTIONS] [TARGET]", "Show the packets of a running bridge to Wireshark or tshark.",
    "They come as pcapng, until ctrl-c or the bridge's end. As in: `netbridge capture | tshark -r -`",
)
_command(
    "connect:connect", "connect [--target TARGET] HOST PORT", "Connect standard input and output to a port over there.",
    "Made for scripts and as ssh's ProxyCommand: `netbridge connect %h %p`.",
)
_command(
    "forward:forward", "forward [--target TARGET] [LOCAL:]HOST:PORT …",
    "Listen on this machine, and lead each client to a place inside the codespace, until ctrl-c.",
)
_command(
    "forward:socks", "socks [OPTIONS]",
    "Serve SOCKS5 on this machine, leading into the codespace's network, until ctrl-c.",
    "CONNECT by name and address; names are resolved over there when the client leaves that to the proxy (socks5h).",
)
_command(
    "attach:attach", "attach [TARGET]", "Show the terminal UI of a running bridge.",
    "d or the end of the bridge closes it, q stops the bridge.",
)
app.command("netbridge.cli.sshconfig:app", name="ssh-config", help="Make `ssh NAME.netbridge` work.")
_command("status:down", "down [TARGET | --all]", "Stop running bridges and wait until they are gone.")
app.command("netbridge.cli.service:app", name="service", help="Let the system's service manager keep a bridge running.")
app.command("netbridge.cli.stack:app", name="stack", help="Use the user-space TCP/IP stack alone.")
app.command("netbridge.cli.link:app", name="link", help=(
    "Join two machines: what is reached from one is reached from the other."
))
app.command("netbridge.cli.config:app", name="config", help="Show the settings and where they come from.")
_command(
    "completion:completion", "completion SHELL", "Print what completes netbridge's command line in a shell.",
    'bash: `eval "$(netbridge completion bash)"` in ~/.bashrc. zsh: the same in ~/.zshrc, behind compinit. fish:'
    " `netbridge completion fish`, kept as ~/.config/fish/completions/netbridge.fish.",
)
app.command("netbridge.cli.ghextension:app", name="gh-extension", help="Make `gh netbridge` work.")
app.command("netbridge.cli.completion:complete", show=False)


def main() -> NoReturn:
    """Run the program as its console script does."""
    standard.ensure()
    status = run(sys.argv[1:])
    if not _flushed(sys.stdout):
        status = status or 1  # whoever reads it must not take it for all
    _flushed(sys.stderr)
    if threading.active_count() > 1:
        # A thread that still waits for the system's resolver would hold the exit for as long as it waits.
        os._exit(status)
    sys.exit(status)


def run(words: Sequence[str]) -> int:
    """Run the command that `words` (without the program's name) ask for; its exit status."""
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _unread(sys.stdout):
            return 1  # `| head`, which has had enough and need not be told
        shown = told(error)
        form = peek(words, "log-format")
        try:
            if peek(words, "trace-level") == "trace":
                for line in traced(error, form):
                    print(line, file=sys.stderr)
            print(failure(shown, form), file=sys.stderr)
        except OSError:
            pass  # a terminal that was closed, a full disk: the exit status says it
        return shown.exit_code


def _unread(stream: TextIO) -> bool:
    """It is a pipe, and nobody is left who could read it."""
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    except (OSError, ValueError):  # closed
        return False


def _flushed(stream: TextIO) -> bool:
    """Write out what a stream still holds; what cannot be written is dropped, or Python's own flush at the exit would
    fail again and turn the exit status into 120.
    """
    try:
        stream.flush()
    except ValueError:  # closed
        return True
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        return False
    return True


def _dispatch(words: Sequence[str]) -> int:
    words = list(words)
    command: tuple[str, ...] | None = None
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], tuple(words[cut + 1:])
    if "--gui" in words:
        from .up import joined

        words = joined(words)
    function, bound, unparsed = app.parse_args(words, exit_on_error=False, print_error=False)
    extra = {}
    if "command" in unparsed:
        extra["command"] = command or ()
    elif command is not None:
        raise UsageError("Only `netbridge up` takes a COMMAND.", "There is a `--` in the command line.", "Remove it.")
    rights.before(function)
    result = function(*bound.args, **bound.kwargs, **extra)
    return result if isinstance(result, int) else 0
