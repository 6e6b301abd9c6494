"""A long file where a name was expected: refused in a sentence, not in as many words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from netbridge.bridge.back.places import parse_forward, parse_listen
from netbridge.bridge.capturefilter import parse_filter
from netbridge.bridge.errors import LONGEST, BridgeError
from netbridge.bridge.joint.place import parse as parse_joint
from netbridge.bridge.options import Options
from netbridge.bridge.trace.place import parse_place
from netbridge.bridge.transport.gh_codespace import parse_list
from netbridge.bridge.transport.gh_transport import parse_configuration
from netbridge.bridge.transport.target import parse_target
from netbridge.cli.render import failure

LONG = 100_000

PARSERS: dict[str, Callable[[str], object]] = {
    "target": parse_target, "filter": parse_filter, "place": parse_place, "forward": parse_forward,
    "listen": parse_listen, "link": lambda text: parse_joint(text, "connect"),
    "codespaces": lambda text: parse_list(text.encode("utf-8", "replace")),
    "gh's configuration": parse_configuration,
    "route": lambda text: Options.gather({"route": text}, {}), "deny": lambda text: Options.gather({"deny": text}, {}),
    "limits": lambda text: Options.gather({"limits": text}, {}), "dns": lambda text: Options.gather({"dns": text}, {}),
    "mtu": lambda text: Options.gather({"mtu": text}, {}),
    "metrics": lambda text: Options.gather({"metrics": text}, {}),
}  # fmt: skip


@pytest.mark.parametrize("letter", ["x", "9", "[", "\x1b", ":", "\ud800"])
@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
def test_a_long_text_is_refused_in_short(parse: Callable[[str], object], letter: str) -> None:
    with pytest.raises(BridgeError) as caught:
        parse(letter * LONG)
    assert len(failure(caught.value, "text")) < 20_000
    assert len(failure(caught.value, "json")) < 8 * LONGEST
    assert json.loads(failure(caught.value, "json"))["what"]


@pytest.mark.parametrize("text", [
    "target = {0}", "{0} = 1", "[{0}]", "route = ['{0}']", "mtu = '{0}'", "limits = {{ '{0}' = 1 }}", "grace = 1{0}",
])  # fmt: skip
def test_a_long_word_in_the_settings_is_refused_in_short(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text.format("1" * 50_000))
    with pytest.raises(BridgeError) as caught:
        Options.gather({}, {}, config=file)
    assert len(str(caught.value)) < 4000


def test_settings_nested_without_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("route = " + "[" * 10_000)
    with pytest.raises(BridgeError, match="nested too deep"):
        Options.gather({}, {}, config=file)
