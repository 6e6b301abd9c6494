"""scripts/audit finds what it is to find, without a network."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/audit"
KNOWN = "# what\nGood-Name 1.10 CVE-1, a fault\nother 2.0 CVE-2, another\n"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("audit", str(SCRIPT))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_pinned_version_with_a_known_fault(audit: ModuleType) -> None:
    known = audit.advisories(KNOWN)
    assert list(audit.advisory_faults(known, {"good-name": "1.9.3"}, {})) == [
        "good-name 1.9.3 is pinned, and 1.10 is the first without CVE-1, a fault",
    ]
    assert not list(audit.advisory_faults(known, {"good-name": "1.10.0", "other": "10.0"}, {}))


def test_what_pyproject_permits(audit: ModuleType) -> None:
    project = {"project": {
        "dependencies": ["good_name[extra] >= 1.2 ; sys_platform == 'linux'", "other"],
        "optional-dependencies": {"more": ["good-name >= 1.12"]},
    }}  # fmt: skip
    floors = audit.permitted(project)
    assert floors == {"good-name": "1.2", "other": ""}
    told = list(audit.advisory_faults(audit.advisories(KNOWN), {}, floors))
    assert [text.partition(",")[0] for text in told] == [
        "pyproject.toml permits good-name 1.2", "pyproject.toml permits other of any age",
    ]


@pytest.mark.parametrize("text", ["name\n", "name>=1\n", "a==1\nA==2\n", "a==1 ; python_version < '4'\n"])
def test_what_pins_nothing(audit: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match="pins no package"):
        audit.pinned(text)


@pytest.mark.parametrize(("one", "two", "earlier"), [
    ("1.9", "1.10", True), ("1.10", "1.9", False), ("1", "1.0.0", False), ("2026.1.4", "2026.1.31", True),
    ("3.0rc1", "3.0", False), ("1.2.post1", "1.2", False),
])  # fmt: skip
def test_which_comes_first(audit: ModuleType, one: str, two: str, earlier: bool) -> None:
    assert audit.older(one, two) is earlier


@pytest.mark.parametrize(("source", "found"), [
    ("if given == self._secret: pass", "a secret"), ("if a['token'] != b: pass", "a secret"),
    ("if psk == None: pass", ""), ("if hmac.compare_digest(a, secret): pass", ""), ("if kind == other: pass", ""),
    ("os.mkdir(path, 0o777)", "0777"), ("os.open(path, flags, 0o600)", ""), ("path.mkdir(mode=0o755)", ""),
    ("os.chmod(path, 0o622)", "0622"),
])  # fmt: skip
def test_sources(audit: ModuleType, source: str, found: str) -> None:
    told = list(audit.source_faults(source, "x.py"))
    assert len(told) == bool(found)
    assert found in "".join(told)


def test_this_project_has_none(audit: ModuleType) -> None:
    assert audit.main([]) == 0


def test_an_index_that_cannot_be_reached_is_no_fault(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "INDEX", "http://127.0.0.1:9/{name}/{version}")
    assert list(audit.index_faults({"a": "1"})) == []
    assert "the index cannot be asked" in capsys.readouterr().out
