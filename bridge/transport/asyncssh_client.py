"""What asyncssh asks while it logs in: is this the right host key, what is the password."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncssh

from ..plain import clean
from .ask import ask
from .known_hosts import Strictness
from .ssh_settings import SshSettings

MOST_TRIES = 3
"""Passwords asked for, as ssh's NumberOfPasswordPrompts."""


class Client(asyncssh.SSHClient):
    """The user's side of a login; serves several attempts on the same host."""

    def __init__(self, settings: SshSettings, log: Callable[[str], None], *, interactive: bool) -> None:
        self._settings = settings
        self._log = log
        self._interactive = interactive
        self._tries = 0
        self.offered: asyncssh.SSHKey | None = None
        """The host key that is not known."""
        self.changed = False
        """Another one is known."""
        self.accepted: asyncssh.SSHKey | None = None
        """A key that the user took for right."""
        self.reason = ""
        """Why the server says it ended the connection."""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        settings = self._settings
        if key == self.accepted or settings.strictness is Strictness.NO:
            return True
        self.offered = key
        self.changed = settings.known_hosts.knows_other_key(settings.key_name, settings.port)
        return False

    def auth_banner_received(self, msg: str, lang: str) -> None:
        for line in msg.splitlines()[:100]:
            if text := clean(line[:400].strip()):
                self._log(text)

    async def password_auth_requested(self) -> str | None:
        self._tries += 1
        if not self._interactive or self._tries > MOST_TRIES:
            return None
        return await ask(f"Password for {self._settings.key_name}: ", echo=False)

    def kbdint_auth_requested(self) -> str | None:
        self._tries += 1
        return "" if self._interactive and self._tries <= MOST_TRIES else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> Sequence[str] | None:
        for text in (name, instructions):
            if text:
                self._log(clean(text.strip()))
        answers: list[str] = []
        for prompt, echo in prompts:
            answer = await ask(f"{clean(prompt.strip())} ", echo=echo)
            if answer is None:
                return None
            answers.append(answer)
        return answers
