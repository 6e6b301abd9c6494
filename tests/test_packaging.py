"""What is shipped is what stands in the folders, and each room imports only what it may."""

from __future__ import annotations

import ast
import email.parser
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import netbridge
from tests.conftest import ROOMS

ROOT = Path(__file__).resolve().parent.parent
TOP_FILES = {"__init__.py", "__main__.py", "py.typed"}
AGENT = ROOT / "bridge" / "agent"


@dataclass(frozen=True)
class Built:
    """The two archives of one build, and the names of the files in them."""

    wheel: Path
    wheel_names: frozenset[str]
    sdist_names: frozenset[str]


def files_under(folder: str) -> set[str]:
    """Every file of a root folder, relative to the root, without what the interpreter left there."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An sdist of the tree and the wheel made from that sdist: the way a package index and pip would do it."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        wheel_names = frozenset(archive.namelist())
    with tarfile.open(sdist) as tar:
        sdist_names = frozenset(member.name.split("/", 1)[1] for member in tar.getmembers() if member.isfile())
    return Built(wheel, wheel_names, sdist_names)


def test_wheel_holds_every_file_of_the_rooms_and_nothing_else(built: Built) -> None:
    expected = {f"netbridge/{name}" for name in TOP_FILES}
    expected.add(f"netbridge-{netbridge.__version__}.data/data/share/man/man1/netbridge.1")
    for room in ROOMS:
        expected |= {f"netbridge/{name}" for name in files_under(room)}
    shipped = {name for name in built.wheel_names if ".dist-info/" not in name}
    assert shipped == expected


def test_sdist_holds_the_tests_too(built: Built) -> None:
    for folder in (*ROOMS, "tests", "fuzz", "demo", "scripts"):
        assert files_under(folder) <= built.sdist_names, f"{folder} is incomplete in the sdist"
    assert {f"src/netbridge/{name}" for name in TOP_FILES} <= built.sdist_names
    assert {"LICENSE", "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "pyproject.toml"} <= built.sdist_names


def test_wheel_metadata(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (info,) = {name.split("/", 1)[0] for name in built.wheel_names if ".dist-info/" in name}
        metadata = email.parser.BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Name"] == "netbridge"
    assert metadata["Version"] == netbridge.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert "netbridge = netbridge.cli.main:main" in scripts


def test_every_module_imports_from_the_wheel_alone(built: Built, tmp_path: Path) -> None:
    """The links under src/ play no part: the unpacked wheel is the only netbridge on the path."""
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path)
    program = (
        "import sys, importlib, pkgutil\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import netbridge\n"
        f"assert netbridge.__file__.startswith({str(tmp_path)!r}), netbridge.__file__\n"
        "for module in pkgutil.walk_packages(netbridge.__path__, 'netbridge.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program],
        capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr


def imports(path: Path, feature_version: tuple[int, int] | None = None) -> list[tuple[int, str]]:
    """What a file imports: (level, module). Level 0 is absolute; parsing fails where the syntax is newer than asked."""
    tree = ast.parse(path.read_bytes(), str(path), feature_version=feature_version)
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def test_nobody_imports_a_room_by_its_folder_name() -> None:
    """ruff's banned-api cannot tell ``from .packet`` inside stack/ from ``import stack.packet``; this can."""
    folders = (*ROOMS, "tests", "fuzz", "bench", "demo", "src/netbridge")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > len(ROOMS)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources
        for level, name in imports(path)
        if level == 0 and name.split(".", 1)[0] in ROOMS
    ]
    assert wrong == []


def test_importing_a_room_by_its_folder_name_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ImportError, match="loaded a second time"):
        __import__("stack")


AGENT_FILES = sorted(AGENT.rglob("*.py"))


def test_the_agent_is_there() -> None:
    assert AGENT_FILES


@pytest.mark.parametrize("path", AGENT_FILES, ids=lambda path: path.relative_to(AGENT).as_posix())
def test_agent_imports_only_the_standard_library_and_itself(path: Path) -> None:
    """It runs in the codespace on whatever Python is there, and nothing may be installed there."""
    depth = len(path.relative_to(AGENT).parts)  # 1: one leading dot still stays inside the agent
    for level, name in imports(path, feature_version=(3, 8)):
        if level == 0:
            assert name.split(".", 1)[0] in sys.stdlib_module_names, f"{name} is not in the standard library"
        else:
            assert level <= depth, f"{'.' * level}{name} leaves the agent"


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_every_dependency_by_name_and_version_alone() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", line) for line in lines)
    pinned = {normal(line.split("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    for group in project["dependency-groups"].values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    names = {normal(re.split(r"[ <>=;!~\[]", entry, maxsplit=1)[0]) for entry in wanted}
    assert names <= pinned


@pytest.mark.parametrize("script", ["scripts/venv", "scripts/system-packages", "scripts/constraints", ".ci/run"])
def test_scripts_are_executable_bash(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
