"""`netbridge config`: where settings come from, and an example that can be used."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.forward.limitsettings import FIELDS
from netbridge.bridge.options import Options, key_of
from netbridge.cli.example import EXAMPLES, lines
from netbridge.cli.program import run

Capture = pytest.CaptureFixture[str]
KEYS = {key_of(field) for field in dataclasses.fields(Options) if "convert" in field.metadata}


@pytest.fixture(name="file")
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    for name in [name for name in os.environ if name.startswith(("NETBRIDGE_", "SUDO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "netbridge" / "config.toml"
    path.parent.mkdir()
    return path


def shown(capsys: Capture, *words: str) -> dict[str, Any]:
    assert run(["config", "show", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["settings"]
    return found


def test_each_setting_has_its_value_and_its_source(
    file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
) -> None:
    file.write_text('mtu = 1400\ndns = "all"\nroute = ["10.0.0.0/8"]\n[limits]\ntcp-flows = 10\nudp-flows = 20\n')
    monkeypatch.setenv("NETBRIDGE_DNS", "off")
    monkeypatch.setenv("NETBRIDGE_LIMITS", "udp-flows=30")
    found = shown(capsys)
    assert found["mtu"] == {"value": 1400, "source": f"{file}, key mtu"}
    assert found["dns"] == {"value": "off", "source": "the environment variable NETBRIDGE_DNS"}
    assert found["route"] == {"value": ["10.0.0.0/8"], "source": f"{file}, key route"}
    assert found["grace"] == {"value": 600.0, "source": "default"}
    assert found["limits.tcp-flows"] == {"value": 10, "source": f"{file}, key limits"}
    assert found["limits.udp-flows"] == {"value": 30, "source": "the environment variable NETBRIDGE_LIMITS"}
    assert found["limits.icmp-flows"]["source"] == "default"
    assert found.keys() == (KEYS - {"limits"}) | {f"limits.{name}" for name in FIELDS}

    assert run(["config", "show"]) == 0
    table = capsys.readouterr().out
    assert re.search(rf"^mtu +1400 +{re.escape(str(file))}, key mtu$", table, re.MULTILINE)
    assert re.search(r"^dns-domain +- +default$", table, re.MULTILINE)
    assert "There is no" not in table


def test_without_a_file_and_with_another(file: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(["config", "show"]) == 0
    assert f"There is no {file}" in capsys.readouterr().out
    other = tmp_path / "other.toml"
    other.write_text("mtu = 1300\n")
    assert shown(capsys, "--config", str(other))["mtu"]["value"] == 1300
    assert run(["config", "show", "--config", str(other)]) == 0
    assert "There is no" not in capsys.readouterr().out
    other.write_text("mtuu = 1300\n")
    assert run(["config", "show", "--config", str(other)]) == 2
    assert "mtuu" in capsys.readouterr().err


def test_the_example_is_a_file_of_defaults(file: Path, capsys: Capture) -> None:
    assert run(["config", "example"]) == 0
    file.write_text(capsys.readouterr().out)
    assert {it["source"] for it in shown(capsys).values()} == {"default"}


def test_every_setting_of_the_example_can_be_set(file: Path, capsys: Capture) -> None:
    text = re.sub(r"^#(?! )", "", "\n".join(lines()), flags=re.MULTILINE)
    written = tomllib.loads(text)
    assert written.keys() == KEYS
    assert written["limits"].keys() == FIELDS.keys()
    file.write_text(text)
    found = shown(capsys)
    assert all(it["source"].startswith(str(file)) for it in found.values())
    defaults = Options()
    for field in dataclasses.fields(Options):
        key = key_of(field) if "convert" in field.metadata else ""
        if key in EXAMPLES:
            assert found[key]["value"] == EXAMPLES[key]
        elif key not in {"", "limits"}:
            default = getattr(defaults, field.name)
            assert found[key]["value"] == (list(default) if isinstance(default, tuple) else default), key
    assert all(found[f"limits.{name}"]["value"] == getattr(defaults.limits, it.name) for name, it in FIELDS.items())
    assert max(map(len, lines())) <= 102
