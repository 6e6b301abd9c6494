"""Puts the stand-in for `gh` (gh_standin.py) on a PATH and says what it shall know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

NAMES = ("mona-fluffy-robot-7x9", "mona-shiny-train-4q2", "hubot-shiny-tower-1w5")


def codespace(name: str, state: str = "Available", **fields: Any) -> dict[str, Any]:
    """One codespace as `gh codespace list --json` tells it."""
    return {
        "name": name,
        "displayName": name.partition("-")[2].rpartition("-")[0].replace("-", " "),
        "owner": name.partition("-")[0],
        "repository": "mona/app",
        "state": state,
        "gitStatus": {"ref": "feature/x", "hasUncommittedChanges": False, "hasUnpushedChanges": False},
        "createdAt": "2026-11-01T10:00:00Z",
        "lastUsedAt": "2026-11-10T10:00:00Z",
        "machineName": "basicLinux32gb",
        "vscsTarget": None,
        **fields,
    }


class StandIn:
    """A stand-in for gh in a folder of its own, which must be new."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        """`fields`: what differs from an account that is logged in and has three codespaces, two of them stopped."""
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("gh_standin.py"), folder / "gh")
        (folder / "gh").chmod(0o755)
        for name in ("calls.jsonl", "lock"):
            (folder / name).write_text("")
            (folder / name).chmod(0o666)
        folder.chmod(0o777)
        self._state: dict[str, Any] = {
            "version": "2.60.1",
            "logged_in": True,
            "asks": False,
            "deaf": False,
            "fails": "",
            "status": 1,
            "codespaces": [
                codespace(NAMES[0]), codespace(NAMES[1], "Shutdown"), codespace(NAMES[2], "Shutdown"),
            ],
            "start_seconds": 0.0,
            "start_fails": False,
            "tunnel_seconds": 0.0,
            "no_sshd": False,
            "user": "root",
            "key": "",
            "authorized_keys": str(folder / "authorized_keys"),
            "address": "127.0.0.1",
            "port": 22,
        }
        self.tell(**fields)

    def tell(self, **fields: Any) -> None:
        """Change what it knows."""
        unknown = fields.keys() - self._state.keys()
        assert not unknown, unknown
        self._state.update(fields)
        (self.folder / "state.json").write_text(json.dumps(self._state))
        (self.folder / "state.json").chmod(0o666)

    @property
    def state(self) -> dict[str, Any]:
        """What it knows now."""
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How it was called: words, uid, home, tty (stdin is a terminal)."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]
