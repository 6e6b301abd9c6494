"""`netbridge config show|example`: the settings of `up` that stand elsewhere than on its command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from .text import clean

app = cyclopts.App(
    name="config", help="Show the settings and where they come from.", help_format="plaintext", version_flags=[])
DEFAULT = "default"


@app.command
def show(
    *, config: Annotated[str | None, Parameter(name="--config", help=(
        "TOML file with settings (default: netbridge/config.toml among the user's)."
    ))] = None,
    json_: Annotated[bool, Parameter(name="--json", negative=(), help="As JSON on standard output.")] = False,
) -> int:
    """Show each setting of `up`, its value and where that comes from: environment, file or default.

    None of them is a secret: keys and passwords are in the hands of ssh, gh and their agents.
    """
    from netbridge.bridge.forward.limitsettings import FIELDS
    from netbridge.bridge.options import PREFIX, Options, default_config, key_of
    from netbridge.bridge.user import helper_user

    from .tables import table

    user = helper_user()
    usual, named = default_config(user), config or user.environment.get(f"{PREFIX}CONFIG")
    options, sources = Options.traced(
        {}, user.environment, config=Path(config) if config else None, default_config=usual)
    found: dict[str, Any] = {}
    for setting in dataclasses.fields(options):
        if "convert" in setting.metadata and setting.name != "limits":
            value = getattr(options, setting.name)
            found[key_of(setting)] = str(value) if isinstance(value, Path) else value
    for name, limit in FIELDS.items():
        found[f"limits.{name}"] = getattr(options.limits, limit.name)
    if json_:
        print(json.dumps({
            "config": named or str(usual),
            "settings": {key: {"value": it, "source": sources.get(key, DEFAULT)} for key, it in found.items()},
        }))
        return 0
    rows = [[key, _shown(value), sources.get(key, DEFAULT)] for key, value in found.items()]
    for line in table(["SETTING", "VALUE", "FROM"], rows):
        print(line)
    if not named and not usual.exists():
        print(clean(f"\nThere is no {usual}; `netbridge config example` prints one."))
    return 0


@app.command
def example() -> int:
    """Print a configuration file with every setting, its default and what it means, all of it commented out."""
    from .example import lines

    print("\n".join(lines()))
    return 0


def _shown(value: object) -> str:
    if value is None or value in {"", ()}:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
