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
from typing import NoReturn

import cyclopts

from netbridge import __version__
from netbridge.bridge.errors import BridgeError, UsageError

from .render import failure

HELP = """Let a remote development environment reach whatever this machine reaches."""

app = cyclopts.App(
    name="netbridge", help=HELP, help_format="plaintext",
    version=f"netbridge {__version__}", version_flags=["--version"],
)
# Named rather than imported: each command's module is loaded when it is asked for.
app.command("netbridge.cli.up:up", help="Bridge TARGET to this machine until q, ctrl-c or COMMAND ends.")
app.command("netbridge.cli.status:status", help="Show running bridges, their flows and counters.")
app.command("netbridge.cli.status:down", help="Stop running bridges.")


def main() -> NoReturn:
    """Run the program as its console script does."""
    status = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
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
        shown = _told(error)
        if _traced(words):
            traceback.print_exception(error)
        print(failure(shown, "text"), file=sys.stderr)
        return shown.exit_code


def _told(error: Exception) -> BridgeError:
    """Any failure in three sentences."""
    if isinstance(error, BridgeError):
        return error
    text = str(error).strip() or "No reason was given."
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    if isinstance(error, cyclopts.CycloptsError):
        return UsageError(text, "The command line could not be understood.", "See netbridge --help.")
    if isinstance(error, BrokenPipeError):
        return BridgeError("Not everything could be printed.", "The reader of the output went away.")
    return BridgeError(
        f"netbridge failed in a way it should not: {type(error).__name__}.", text,
        "Run it again with --trace-level trace and report what it prints.",
    )


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


def _traced(words: Sequence[str]) -> bool:
    own = list(words)[: list(words).index("--")] if "--" in words else list(words)
    if "--trace-level" in own[:-1]:
        return own[own.index("--trace-level") + 1] == "trace"
    return "--trace-level=trace" in own or os.environ.get("NETBRIDGE_TRACE_LEVEL") == "trace"


if __name__ == "__main__":
    main()
