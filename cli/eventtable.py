"""docs/events.md: what `--log-format json` writes, made from the events themselves (`make man`)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

from netbridge.bridge import events
from netbridge.bridge.sentences import sentences

from .render import kind

_HEAD = """\
# Events

With `--log-format json` netbridge writes one JSON object a line to standard error, and to `--log-file`. Each has `time`
(seconds since 1970) and `event`, one of the kinds below; each kind has all of its fields, and new ones may come with a
new version. Texts that are called untrusted were written by the target.

Besides there are `log` (`level`, `logger`, `text`: a record of the log, as much as `--trace-level` wants), `failed`
(`what`, `why`, `todo`, `exit_code`: the last line of a run that failed) and `traceback` (`line`, with `--trace-level
trace` only).

<!-- Made by `make man` from bridge/events.py; do not edit. -->
"""


def lines() -> Iterator[str]:
    """The page."""
    yield _HEAD
    for event in vars(events).values():
        if not (isinstance(event, type) and issubclass(event, events.Event)) or event is events.Event:
            continue
        yield f"## {kind_of(event)}"
        yield ""
        yield " ".join((inspect.getdoc(event) or "").split())
        yield ""
        texts = sentences(event)
        for field in dataclasses.fields(event):
            yield f"- `{field.name}`" + (f": {texts[field.name]}" if texts.get(field.name) else "")
        yield ""


def kind_of(event: type[events.Event]) -> str:
    """The kind of an event by its class, as JSON names it."""
    return kind(object.__new__(event))


if __name__ == "__main__":
    print("\n".join(lines()).rstrip("\n"))
