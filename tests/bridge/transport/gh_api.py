"""A local HTTP server that plays the part of GitHub's API that the real gh asks (through GITHUB_API_URL)."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answers:
    """What the server says and what it was asked."""

    status: int = 200
    message: str = ""
    """With a status other than 200: GitHub's reason."""
    headers: dict[str, str] = field(default_factory=dict)
    codespaces: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The paths, in order."""


class Api:
    """The running server; a context manager."""

    def __init__(self) -> None:
        self.answers = answers = Answers()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers.asked.append(self.path)
                status, body = answers.status, {"message": answers.message}
                if status == 200 and self.path.startswith("/user/codespaces?"):
                    body = {"total_count": len(answers.codespaces), "codespaces": answers.codespaces}  # type: ignore[dict-item]
                elif status == 200:
                    status, body = 404, {"message": "Not Found"}
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **answers.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Api:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def codespace(name: str, display_name: str, state: str) -> dict[str, Any]:
    """One codespace as the API tells it."""
    return {
        "name": name, "display_name": display_name, "state": state, "owner": {"login": "mona"},
        "created_at": "2026-11-01T10:00:00Z", "last_used_at": "2026-11-10T10:00:00Z",
        "repository": {"full_name": "mona/app"}, "machine": {"name": "basicLinux32gb"},
        "git_status": {"ref": "main", "has_uncommitted_changes": True, "has_unpushed_changes": False},
    }  # fmt: skip
