"""The command line's front door: words to a command, any failure to three sentences and an exit code.

What follows `--` is COMMAND and is cut off before the options are read, so that nothing in it is ever taken for ours.
Heavy modules (the bridge, SSH, DNS) are imported by the commands that use them: `netbridge --version` is quick.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn, TextIO

import cyclopts

from netbridge import __version__
from netbridge.bridge.errors import UsageError

from . import standard
from .failures import peek, told
from .render import failure

HELP = """Let a remote development environment reach whatever this machine reaches."""

app = cyclopts.App(
    name="netbridge", help=HELP, help_format="plaintext",
    version=f"netbridge {__version__}", version_flags=["--version"],
)
# Named rather than imported: each command's module is loaded when it is asked for.
app.command("netbridge.cli.up:up", help="Bridge TARGET to this machine until q, ctrl-c or COMMAND ends.")
app.command("netbridge.cli.list:list_", name="list", help="Show codespaces and their state.")
app.command("netbridge.cli.status:status", help="Show running bridges, their flows and counters.")
app.command("netbridge.cli.trace:trace", help="Show how one destination travels, and what stops it.")
app.command("netbridge.cli.doctor:doctor", help="Check everything a bridge needs, with the mend for each fault.")
app.command("netbridge.cli.attach:attach", help="Show the terminal UI of a running bridge.")
app.command("netbridge.cli.connect:connect", help="Connect standard input and output to a port over there.")
app.command("netbridge.cli.forward:forward", help="Listen on this machine, and reach into the codespace.")
app.command("netbridge.cli.forward:socks", help="Serve SOCKS5 into the codespace's network.")
app.command("netbridge.cli.sshconfig:app", name="ssh-config", help="Make `ssh NAME.netbridge` work.")
app.command("netbridge.cli.status:down", help="Stop running bridges.")
app.command("netbridge.cli.service:app", name="service", help="Let the system's service manager keep a bridge running.")


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
        shown = told(error)
        if peek(words, "trace-level") == "trace":
            traceback.print_exception(error)
        try:
            print(failure(shown, peek(words, "log-format")), file=sys.stderr)
        except OSError:
            pass  # a terminal that was closed, a full disk: the exit status says it
        return shown.exit_code


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
    function, bound, unparsed = app.parse_args(words, exit_on_error=False, print_error=False)
    extra = {}
    if "command" in unparsed:
        extra["command"] = command or ()
    elif command is not None:
        raise UsageError("Only `netbridge up` takes a COMMAND.", "There is a `--` in the command line.", "Remove it.")
    result = function(*bound.args, **bound.kwargs, **extra)
    return result if isinstance(result, int) else 0
