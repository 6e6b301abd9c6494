"""A codespace: found by its name, started when it is stopped, reached by SSH through gh's tunnel.

`gh codespace ssh --config` starts a stopped codespace and waits for it (up to five minutes), so it comes first and the
tunnel after it meets a running one. Meanwhile the list is asked now and then, to tell how far it is.

Of the configuration that gh prints only `User` and `IdentityFile` are read. The branch and the user in it come from
the codespace: a line that occurs twice is no printing of gh's and is refused, and the user must look like one. The
key may not exist yet (gh makes it when it first connects without `-i`), so it is made here, as gh would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from ..errors import BridgeError, NotPermittedError, TargetStoppedError
from ..plain import clean
from ..user import User, in_person
from . import gh_errors
from .base import Transport
from .behind import BehindTunnel
from .gh import Gh
from .gh_codespace import LOST_STATES, Codespace, argument, find
from .target import CodespaceTarget

START_PATIENCE = 330.0
"""Seconds: a stopped codespace takes up to five minutes to start."""
LOOK_INTERVAL = 3.0
"""Seconds between looks at a codespace that starts."""
_REMOTE_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}\Z")

Tell = Callable[[str], None]


class CodespaceTransport(BehindTunnel):
    """A codespace, as `gh` reaches it."""

    def __init__(
        self, target: CodespaceTarget, *, ssh: str, user: User, log: Callable[[str], None], interactive: bool,
        progress: Tell,
    ) -> None:
        """`ssh`: openssh or asyncssh. `progress` is told what a start waits for."""
        self._target = target
        self._ssh = ssh
        self._log = log
        self._interactive = interactive
        self._progress = progress
        self._gh = Gh(user)

    def __repr__(self) -> str:
        return f"<CodespaceTransport {self._target}>"

    async def connect(self) -> None:
        await self._gh.check()
        codespace = find(await self._gh.codespaces(), self._target.name)
        name = argument(codespace)
        label = f"the codespace {codespace.label[:200]}"
        if codespace.state in LOST_STATES:
            raise TargetStoppedError(
                f"{label[0].upper()}{label[1:]} cannot be started.", f"Its state is {codespace.state}.",
                "See it on https://github.com/codespaces, or choose another one.",
            )
        if not codespace.running and not self.may_start:
            raise TargetStoppedError(
                f"{label[0].upper()}{label[1:]} was stopped.", f"Its state is {clean(codespace.state)}.",
                "Start the bridge again, which starts the codespace too.",
            )
        user, key = await self._configuration(codespace, label)
        _make_key(self._gh.user, key)
        self._inner = self._make(name, user, key, label)
        self._progress(f"logging in to {label}")
        await self._inner.connect()

    def _not_connected(self) -> BridgeError:
        return gh_errors.lost(f"the codespace {self._target}", "It is not connected.")

    def _make(self, name: str, user: str, key: Path, label: str) -> Transport:
        from .gh_ssh import GhTunnel
        from .tunnel import tunnelled

        tunnel = GhTunnel(self._gh.program, name, user, key, label, self._gh.user)
        return tunnelled(tunnel, self._ssh, user=self._gh.user, log=self._log, interactive=self._interactive)

    async def _configuration(self, codespace: Codespace, label: str) -> tuple[str, Path]:
        """Who logs in there, and by which key. Starts the codespace when it is stopped. Raises BridgeError."""
        looking = None
        if not codespace.running:
            self._progress(f"starting {label} (now {clean(codespace.state)}; this takes up to five minutes)")
            looking = asyncio.get_running_loop().create_task(self._look(codespace, label))
        words = ("codespace", "ssh", "--config", "-c", codespace.name)
        try:
            answer = await self._gh.ask(*words, patience=START_PATIENCE)
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.wait([looking])
        if answer.status:
            raise gh_errors.explain(self._gh.user, label, answer.status, answer.stderr)
        return parse_configuration(answer.stdout.decode("utf-8", "replace"))

    async def _look(self, codespace: Codespace, label: str) -> None:
        """Tell each change of state until cancelled."""
        state = codespace.state
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            with contextlib.suppress(BridgeError):  # what matters is whether the start itself fails
                now = find(await self._gh.codespaces(), codespace.name).state
                if now != state:
                    state = now
                    self._progress(f"{label} is {clean(now)}")


def parse_configuration(text: str) -> tuple[str, Path]:
    """`User` and `IdentityFile` of the one block that `gh codespace ssh --config` printed. Raises BridgeError."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        word, _, value = line.strip().replace("=", " ", 1).partition(" ")
        key = word.lower()
        if key in {"host", "user", "identityfile"}:
            if key in found:
                raise _strange(f"{word} stands in it twice.")
            found[key] = value.strip().strip('"')
    user, key_file = found.get("user", ""), found.get("identityfile", "")
    if not _REMOTE_USER.match(user):
        raise _strange(f"The user it names, {clean(user)[:64]!r}, is none." if user else "It names no user.")
    if not key_file.startswith("/") or not key_file.isprintable() or '"' in key_file:
        raise _strange(f"The key it names, {clean(key_file)[:200]!r}, is no absolute path.")
    return user, Path(key_file)


def _strange(why: str) -> BridgeError:
    return BridgeError(
        "gh's SSH configuration of the codespace is refused.", why, "See what `gh codespace ssh --config` prints."
    )


def _make_key(user: User, key: Path) -> None:
    """Make the key pair, as the user, where it does not exist. Raises NotPermittedError."""
    public = key.with_name(f"{key.name}.pub")
    with in_person(user):
        try:
            if not key.exists():
                import asyncssh

                made = asyncssh.generate_private_key("ssh-ed25519")
                key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _write(key, made.export_private_key("openssh"), 0o600)
                public.unlink(missing_ok=True)
                _write(public, made.export_public_key("openssh"), 0o644)
            elif not public.exists():
                raise NotPermittedError(
                    "The key for codespaces has no public part.", f"{public} is missing.",
                    f"Make it by `ssh-keygen -y -f {shlex.quote(str(key))} > {shlex.quote(str(public))}`.",
                )
        except OSError as error:
            raise NotPermittedError(
                "The key for codespaces could not be made.", f"{error}.", f"Check {key.parent}."
            ) from error


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
