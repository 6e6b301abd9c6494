"""Events on their way to the screen: each kind comes back from JSON as it was."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from netbridge.bridge import events
from netbridge.cli import render
from netbridge.cli.ui.entries import event_of, words

KINDS = [
    kind for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
]


def sample(kind: Any) -> Any:
    """A value of a field's type."""
    if get_origin(kind) is tuple:
        inner = [argument for argument in get_args(kind) if argument is not ...]
        return tuple(sample(argument) for argument in inner)
    if kind is events.Network:
        return events.Network("10.0.0.0/8", "by tun0")
    values = {str: "text", int: 7, float: 1.5, bool: True}
    assert kind in values, f"no sample of {kind}"
    return values[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_the_same_behind_json(kind: type[events.Event]) -> None:
    hints = get_type_hints(kind)
    event = kind(**{item.name: sample(hints[item.name]) for item in dataclasses.fields(kind)})
    fields = json.loads(json.dumps(dataclasses.asdict(event)))
    assert event_of(kind.__name__, fields) == event
    assert words({"event": kind.__name__, "fields": fields}) == render.line(event)


@pytest.mark.parametrize(("name", "fields"), [
    ("Event", {}), ("EventSink", {}), ("dataclass", {}), ("Ready", {}), ("__name__", {}), ("Nothing", {"x": 1}),
])
def test_what_is_no_event_is_none(name: str, fields: dict[str, Any]) -> None:
    assert event_of(name, fields) in {None, events.Event()}
