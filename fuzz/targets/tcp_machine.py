"""A TCP connection told any program of segments, calls and clock steps keeps the promises of RFC 9293, and ends."""

from __future__ import annotations

from fuzz.machine import play as run  # noqa: F401 - used by the engine
