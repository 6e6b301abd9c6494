"""The `gh` program: asked as the person who called us, without a terminal, and never for longer than a patience.

gh may ask questions (a login, a choice) and waits for ever where nobody answers. So it runs in a session of its own,
where /dev/tty cannot be opened, with stdin from /dev/null, and is told not to prompt (GH_PROMPT_DISABLED). Whether it
is logged in is not asked beforehand: `codespace list` says it as well (exit status 4), and `auth status` would cost a
further turn to GitHub.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import shutil
import signal
from dataclasses import dataclass

from ..errors import BridgeError, TargetUnreachableError
from ..user import User, helper_user
from . import gh_errors
from .child import Child
from .diagnostics import Diagnostics
from .gh_codespace import FIELDS, Codespace, parse_list

LIMIT = 1000
"""Codespaces asked for. gh's own default is 30; an account may have many more, mostly stopped."""
VERSION_PATIENCE = 15.0
LIST_PATIENCE = 60.0
"""Seconds. GitHub is asked for 100 codespaces at a time."""
MOST_OUTPUT = 16 << 20
"""Bytes of an answer: 1000 codespaces need half a megabyte."""
LAST_WORDS = 0.5
"""Seconds, after its end, for the end of its standard error: a grandchild may hold it open."""

QUIET = {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "GH_SPINNER_DISABLED": "1", "NO_COLOR": "1"}
LOUD = ("GH_FORCE_TTY", "GH_DEBUG", "DEBUG", "CLICOLOR_FORCE", "GH_PAGER")
"""Variables that would make gh draw on, or pour its traffic into, what is read here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a gh that ended left."""

    status: int
    stdout: bytes
    stderr: str
    """Its last lines, printable. Untrusted."""


def quiet_user(user: User) -> User:
    """`user` with an environment in which gh neither asks nor decorates, and programs are started by /bin/sh."""
    environment = {name: value for name, value in user.environment.items() if name not in LOUD}
    return dataclasses.replace(user, environment={**environment, **QUIET, "SHELL": "/bin/sh"}, shell="/bin/sh")


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
        stdout = _Collector()
        stderr = Diagnostics(lambda _line: None)
        read_end, write_end = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDONLY)
        try:
            child = Child(
                [self.program, *words], user=self.user, interactive=False,
                stdin=nowhere, stdout=stdout.write_end, stderr=write_end,
            )
        except OSError as error:
            os.close(read_end)
            stdout.close()
            raise TargetUnreachableError("gh could not be started.", f"{error}.", "Check its installation.") from error
        finally:
            os.close(write_end)
            os.close(nowhere)
            stdout.close_write_end()
        stderr.drain(read_end)
        quiet = asyncio.Event()
        stderr.when_ended = quiet.set
        try:
            async with asyncio.timeout(patience):
                output = await stdout.everything()
                status = await child.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await quiet.wait()
            return Answer(status, output, stderr.text())
        except TimeoutError:
            raise gh_errors.silent(" ".join(words[:2]), patience) from None
        finally:
            if child.status is None:
                # It holds nothing that would want an orderly end, and it may be deaf.
                child.signal(signal.SIGKILL)
                await child.wait()
            stdout.close()
            stderr.close()


class _Collector:
    """A pipe whose content is collected, up to a limit."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._data = bytearray()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_end, self._readable)

    async def everything(self) -> bytes:
        """All that was written until the end. Raises BridgeError when it is too much."""
        await self._done
        return bytes(self._data)

    def close_write_end(self) -> None:
        os.close(self.write_end)

    def close(self) -> None:
        if self._read_end >= 0:
            self._loop.remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._read_end, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if len(self._data) > MOST_OUTPUT:
            self._settle(BridgeError("gh says too much.", f"More than {MOST_OUTPUT} bytes came.", "Check what gh is."))
        elif not data:
            self._settle(None)

    def _settle(self, error: BridgeError | None) -> None:
        self._loop.remove_reader(self._read_end)
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
