"""The `gh` program: asked as the person who called us, without a terminal, and never for longer than a patience.

It runs where nobody can be asked (asked.py), and is told not to prompt (GH_PROMPT_DISABLED). Whether it is logged in is
not asked beforehand: `codespace list` says it as well (exit status 4), and `auth status` would cost a further turn to
GitHub.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil

from ..user import User, helper_user
from . import gh_errors
from .asked import Answer, ask_program
from .gh_codespace import FIELDS, Codespace, parse_list

LIMIT = 1000
"""Codespaces asked for. gh's own default is 30; an account may have many more, mostly stopped."""
VERSION_PATIENCE = 15.0
LIST_PATIENCE = 60.0
"""Seconds. GitHub is asked for 100 codespaces at a time."""

QUIET = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "GH_SPINNER_DISABLED": "1", "NO_COLOR": "1"}
LOUD = ("GH_FORCE_TTY", "GH_DEBUG", "DEBUG", "CLICOLOR_FORCE", "GH_PAGER")
"""Variables that would make gh draw on, or pour its traffic into, what is read here."""


def quiet_user(user: User) -> User:
    """`user` with an environment in which gh neither asks nor decorates, and programs are started by /bin/sh."""
    environment = {name: value for name, value in user.environment.items() if name not in LOUD}
    environment.update({**QUIET, "SHELL": "/bin/sh"})
    return dataclasses.replace(user, environment=environment, shell="/bin/sh")  # noqa: S604  (a field of that name)


class Gh:
    """gh, as the user who called us."""

    def __init__(self, user: User | None = None) -> None:
        """Nothing is looked for yet. `user`: whose gh it is; None: who called sudo, or ourselves."""
        self.user = quiet_user(user or helper_user())
        self.program = ""
        """Its path, after `check`."""

    async def check(self) -> None:
        """Find it, and see that it is new enough. Raises TargetLacksError."""
        found = shutil.which("gh", path=self.user.environment.get("PATH"))
        if found is None:
            raise gh_errors.missing(self.user)
        self.program = os.path.abspath(found)
        answer = await self.ask("--version", patience=VERSION_PATIENCE)
        said = answer.stdout[:200].decode("utf-8", "replace")
        numbers = re.search(r"gh version v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", said)
        # Who built it from source has no number ("gh version DEV"), and is taken to know.
        if numbers and tuple(int(number or 0) for number in numbers.groups()) < gh_errors.NEEDED:
            raise gh_errors.too_old(gh_errors.version_text(tuple(int(number or 0) for number in numbers.groups())))

    async def codespaces(self) -> list[Codespace]:
        """All codespaces of the account, running ones first. Raises BridgeError."""
        if not self.program:
            await self.check()
        words = ("codespace", "list", "--limit", str(LIMIT), "--json", ",".join(FIELDS))
        answer = await self.ask(*words, patience=LIST_PATIENCE)
        if answer.status:
            raise gh_errors.explain(self.user, "the list of codespaces", answer.status, answer.stderr)
        return parse_list(answer.stdout)

    async def ask(self, *words: str, patience: float) -> Answer:
        """Run it to its end. When it takes longer than `patience` seconds, or we are cancelled, it is killed.

        Raises TargetUnreachableError when it cannot be started or does not end.
        """
        try:
            return await ask_program([self.program, *words], self.user, patience=patience)
        except TimeoutError:
            raise gh_errors.silent(" ".join(words[:2]), patience) from None
