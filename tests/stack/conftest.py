"""Hypothesis without deadlines: a loaded machine is no defect."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("stack", deadline=None)
settings.load_profile("stack")
