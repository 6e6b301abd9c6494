"""The tunnel that `gh codespace ssh --stdio` is: the raw bytes of the codespace's sshd.

It ends with exit status 1 and `tunnel closed` whatever the reason. When we end it that is no news, so the line is kept
from the log; when a bridge runs on it, it is the reason of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BridgeError
from ..user import User
from . import gh_errors
from .target import SshTarget
from .tunnel import Tunnel
from .words import MAX_TEXT


@dataclass(frozen=True, slots=True)
class GhTunnel(Tunnel):
    """A codespace's sshd and the way to it. Everything in here has been checked."""

    program: str
    """gh's path."""
    name: str
    """The codespace's name."""
    user: str
    """Who logs in there."""
    key_file: Path
    """The private key."""
    label: str
    """How the codespace is called in a sentence."""
    caller: User
    """Whose gh it is."""

    @property
    def host(self) -> SshTarget:
        return SshTarget(f"cs.{self.name}", self.user)

    @property
    def words(self) -> Sequence[str]:
        return [self.program, "codespace", "ssh", "-c", self.name, "--stdio", "--", "-i", str(self.key_file)]

    @property
    def key(self) -> Path:
        return self.key_file

    def explain(self, text: str) -> BridgeError:
        return gh_errors.explain(self.caller, self.label, None, text)

    def not_let_in(self, why: str) -> BridgeError:
        return gh_errors.not_let_in(self.label, why)

    def lost(self, lines: Sequence[str]) -> BridgeError:
        return gh_errors.lost(self.label, _last_words(lines))

    def is_news(self, line: str) -> bool:
        return gh_errors.TUNNEL_CLOSED not in line


def _last_words(lines: Sequence[str]) -> str:
    """Of the last lines of both programs the one that tells most: gh's, since ssh only saw its stream end."""
    for line in reversed(lines):
        if gh_errors.TUNNEL_CLOSED in line:
            return f"gh says: {line[:MAX_TEXT]}."
    return f"{lines[-1][:MAX_TEXT]}." if lines else ""
