"""The commented configuration file, made from the settings themselves.

A line `#key = value` is a setting whose value is its default, or where that is nothing an example; `# text` is about
it.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Iterator

from netbridge.bridge.forward.limitsettings import FIELDS, amount
from netbridge.bridge.options import PREFIX, Options, key_of
from netbridge.bridge.sentences import sentences

WIDTH = 100
EXAMPLES: dict[str, object] = {
    "target": "ssh://me@devbox", "route": ["10.20.0.0/16", "fd00:20::/32"], "exclude": ["10.20.9.0/24"],
    "dns-domain": ["corp.internal"], "allow": ["127.0.0.1:5432"], "deny": ["local", "10.0.0.0/8:22,3389"],
    "mtu": 1400, "gui": False,
    "log-file": "/tmp/netbridge.log", "pcap": "/tmp/netbridge.pcapng",  # noqa: S108  (a text to be edited)
    "metrics": "127.0.0.1:9464",
}
"""For settings that are nothing unless set."""
_HEAD = f"""\
Settings of netbridge. Flags of `netbridge up` are stronger than the environment ({PREFIX}DNS_DOMAIN for dns-domain),
and that is stronger than this file. A list replaces the list of a weaker source. `netbridge config show` tells what is
in effect. Remove the # before a setting to set it."""


def lines() -> Iterator[str]:
    """The file, line by line."""
    yield from _comment(" ".join(_HEAD.split()))
    texts = sentences(Options)
    for setting in dataclasses.fields(Options):
        if "convert" not in setting.metadata or setting.name == "limits":
            continue
        key, default = key_of(setting), setting.default
        nothing = key in EXAMPLES and default in {None, "", ()}
        yield ""
        text = texts[setting.name].replace("None:", "Unless set:")
        yield from _comment(f"{text} Not set; for example:" if nothing else text)
        yield f"#{key} = {_toml(EXAMPLES[key] if nothing else default)}"
    yield ""
    yield from _comment(" ".join((texts["limits"], "Each with the range it can be set in.")))
    yield "#[limits]"
    for name, field in FIELDS.items():
        about = field.metadata
        yield ""
        least, most = (amount(about[end], about["unit"]) for end in ("least", "most"))
        yield from _comment(f"{about['reason']} From {least} to {most}.")
        yield f"#{name} = {_toml(about['default'])}"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]


def _toml(value: object) -> str:
    """A value as TOML; texts and lists of them are JSON's."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
