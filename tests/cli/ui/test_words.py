"""Texts for narrow columns."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from netbridge.cli.ui.words import fit


@pytest.mark.parametrize("text", ["plain", "x" * 40, "中文" * 20, "中", "e\u0301" * 40, "a" + "\u0301" * 60, "…" * 40])
@pytest.mark.parametrize("width", [0, 1, 7, 15])
@pytest.mark.parametrize("begin", [True, False])
def test_a_text_takes_the_cells_it_is_given(text: str, width: int, begin: bool) -> None:
    assert cell_len(fit(text, width, begin=begin)) == width
