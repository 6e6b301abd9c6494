"""The words of `connect`, `forward`, `socks` and `ssh-config`, and what they answer without a bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from netbridge.cli.program import run


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETBRIDGE_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.mark.parametrize(("words", "code", "said"), [
    (["connect", "db", "5432"], 3, "No bridge is running."),
    (["connect", "db", "5432", "--target", "sandbox"], 3, "No bridge to sandbox is running."),
    (["connect", "db", "http"], 2, "'http' is no port."),
    (["connect", "db", "65536"], 2, "'65536' is no port."),
    (["connect", "db"], 2, "could not be understood"),
    (["forward"], 2, "No place was named."),
    (["forward", "x"], 2, "'x' is not understood."),
    (["forward", "5432:localhost:5432"], 3, "No bridge is running."),
    (["socks", "--listen", "here"], 2, "'here' is not understood."),
    (["socks"], 3, "No bridge is running."),
    (["ssh-config", "install", "exec:sh"], 2, "Choose one by --name."),
    (["ssh-config", "install", "sandbox", "--port", "0"], 2, "0 is no port."),
])
def test_what_cannot_be(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == code
    output = capsys.readouterr()
    assert said in output.err
    assert output.out == ""


def test_ssh_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / ".ssh/netbridge_config"
    assert run(["ssh-config", "install", "ssh://me@dev"]) == 0
    assert "dev.netbridge installed in" in capsys.readouterr().err
    assert " connect --target ssh://me@dev localhost 22\n" in ours.read_text()
    assert run(["ssh-config", "install", "ssh://me@dev"]) == 0
    assert "was installed already" in capsys.readouterr().err
    assert run(["ssh-config", "uninstall", "ssh://me@other"]) == 0
    assert "Nothing of it was installed." in capsys.readouterr().err
    assert ours.exists()
    assert run(["ssh-config", "uninstall", "ssh://me@dev"]) == 0
    assert "Removed dev.netbridge" in capsys.readouterr().err
    assert not ours.exists()
