"""The documentation as a site, and the figures and pictures in it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .blocks import ROOT, documents

FIGURES = ROOT / "docs/figures/bench.json"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, made as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)], cwd=ROOT,
        env={**os.environ, "DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "true"}, capture_output=True,
        text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr
    return folder


def test_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        found = re.findall(r'<(?:script|img|iframe|link)[^>]+(?:src|href)="(https?://[^"]+)', page.read_text())
        assert not found, f"{page.name}: {found}"


def test_the_library_has_what_its_docstrings_say(site: Path) -> None:
    page = (site / "library.html").read_text()
    names = ("Stack.open_connection", "TcpConfig", "FaultLink", "Session.run", "Options", "TargetLacksError", "Policy")
    for name in names:
        assert re.search(rf'id="netbridge\.[\w.]*{re.escape(name)}"', page), name


def test_no_heading_came_by_accident() -> None:
    """A line that begins with the number of an issue is a heading for Markdown."""
    for path in documents():
        assert not re.search(r"(?m)^#+[^# ]", re.sub(r"(?s)```.*?```", "", path.read_text())), path.name


def plot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plot", ROOT / "bench/plot.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plot_is_of_the_figures() -> None:
    drawing = plot()
    assert drawing.PICTURE.read_text() == drawing.draw(json.loads(FIGURES.read_text())), "run python bench/plot.py"


def rows(file: str) -> dict[str, list[float | None]]:
    """The rows of the table of paths, by name."""
    found = {}
    for line in (ROOT / file).read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 4 and re.match(r"[\d.]+( Gbit/s)?$", cells[1]):
            numbers = [re.sub(r"[^\d.]", "", cell.partition(" ")[0]) for cell in cells[1:]]
            found[cells[0]] = [float(number) if number else None for number in numbers]
    return found


@pytest.mark.parametrize("file", ["ARCHITECTURE.md", "docs/comparison.md"])
def test_the_tables_are_of_the_figures(file: str) -> None:
    table = rows(file)
    result: dict[str, Any] = json.loads(FIGURES.read_text())
    for path in result["paths"]:
        figures = [path["up"], path["down"], path["requests"], path["memory"]]
        assert table[path["name"]] == figures, path["name"]
