"""Where events, errors and log records go: standard error, `--log-file` as well, and how far the bridge is to a service
manager; configured here and nowhere else.

Standard output belongs to machines (JSON) and to COMMAND. A record's text passes `clean`, as it may quote the target.
While COMMAND has the terminal in raw mode a bare newline does not return the carriage, hence the lines end in CR LF
on a terminal whose output processing is off.
"""

from __future__ import annotations

import json
import logging
import sys
import termios
import time
import traceback
from collections import deque
from collections.abc import Callable

from netbridge.bridge.errors import UsageError
from netbridge.bridge.events import Event, Hint
from netbridge.bridge.notify import Notify
from netbridge.bridge.options import Options

from . import render
from .calm import Calm
from .failures import told, traced
from .logfile import LogFile
from .text import clean

TRACE = 5
"""Below DEBUG: a record for each packet or frame, where a room has one."""
_LEVELS = {
    "trace": TRACE, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR,
    "none": logging.CRITICAL + 1,
}
_TALKATIVE = {"asyncssh": logging.INFO, "asyncio": logging.INFO, "pyroute2": logging.DEBUG}
"""Libraries whose records up to this level are for `--trace-level trace` (pyroute2 logs each netlink message)."""


RECORD_MAX = 20_000
"""Characters of one log record: a long traceback."""
HELD = 10
"""Lines that are told late: who had the screen showed them, but the last ones may say why it is gone."""


class Output:
    """Events and errors of one run of the program."""

    def __init__(self, options: Options, manager: Notify | None = None) -> None:
        """Set logging up. `manager`: who started us as a service. Raises UsageError for a file not to be written."""
        self._manager = manager or Notify({})
        self._form = options.log_format
        self._calm = Calm()
        self._traced = options.trace_level == "trace"
        self._file: LogFile | None = None
        self._held: deque[str] | None = None
        """What waits for the screen, while somebody else has it."""
        self.watcher: Callable[[str, str, str], None] | None = None
        """Is told every log record: level, logger and text."""
        if options.log_file:
            try:
                self._file = LogFile(options.log_file, options.log_size, lambda text: self.event(Hint(text)))
            except OSError as error:
                raise UsageError(
                    f"The log file {options.log_file} cannot be written.", f"{error.strerror}.",
                    "Name another by --log-file.",
                ) from error
        logging.captureWarnings(True)  # Python would print them, in a form of its own
        logging.addLevelName(TRACE, "TRACE")
        root = logging.getLogger()
        for handler in list(root.handlers):
            if isinstance(handler, _Handler):
                root.removeHandler(handler)
        root.addHandler(_Handler(self))
        level = _LEVELS[options.trace_level]
        root.setLevel(level)
        for name, chatter in _TALKATIVE.items():
            logging.getLogger(name).setLevel(level if level == TRACE else max(level, chatter + 1))

    def event(self, event: Event) -> None:
        """Tell one event (the bridge's callback)."""
        self._manager.tell(**render.notification(event))
        if self._form == "json":
            self.write(render.record(event))
        else:
            self.write(f"netbridge: {render.line(event)}", screen=self._calm.shows(event))

    def failure(self, error: Exception) -> int:
        """Tell why it failed, with `--trace-level trace` also where; the exit code."""
        if self._traced:
            for line in traced(error, self._form):
                self.write(line)
        shown = told(error)
        self._manager.tell(STATUS=clean(str(shown)))
        self.write(render.failure(shown, self._form))
        return shown.exit_code

    def log(self, record: logging.LogRecord) -> None:
        """Tell one log record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f" ({type(error).__name__}: {error})"
            if self._traced:
                text += " " + " | ".join("".join(traceback.format_exception(error)).splitlines())
        text = clean(text, RECORD_MAX)
        if self.watcher is not None:
            self.watcher(record.levelname.lower(), record.name, text)
        if self._form == "json":
            self.write(json.dumps({
                "time": round(record.created, 3), "event": "log", "level": record.levelname.lower(),
                "logger": record.name, "text": text,
            }))
        else:
            self.write(f"{record.levelname.lower()}: {record.name}: {text}")

    def write(self, line: str, *, screen: bool = True) -> None:
        """One line to standard error (nobody there is no reason to fail) and to the log file."""
        if screen and self._held is not None:
            self._held.append(line)
        elif screen:
            self.write_raw(line + _line_end())
        if self._file:
            stamp = "" if self._form == "json" else time.strftime("%Y-%m-%dT%H:%M:%S ")
            self._file.write(f"{stamp}{line}")

    def write_raw(self, text: str) -> None:
        """Characters to standard error, as they are."""
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass

    def hold(self) -> None:
        """Somebody else has the screen: lines for it wait, the last HELD of them."""
        self._held = deque(maxlen=HELD)

    def let_go(self) -> None:
        """The screen is ours again."""
        held, self._held = self._held, None
        for line in held or ():
            self.write_raw(line + _line_end())

    def close(self) -> None:
        logging.captureWarnings(False)
        if self._file:
            self._file.close()
            self._file = None


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.log(record)
        except Exception:  # a record that cannot be formatted must not end the bridge
            self.handleError(record)


def _line_end() -> str:
    try:
        return "\n" if termios.tcgetattr(sys.stderr.fileno())[1] & termios.OPOST else "\r\n"
    except (OSError, ValueError, termios.error):
        return "\n"
