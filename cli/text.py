"""What every line for a terminal passes: `clean`, from where the bridge has it."""

from __future__ import annotations

from netbridge.bridge.plain import LINE_MAX, clean

__all__ = ["LINE_MAX", "clean"]
