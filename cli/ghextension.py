"""`netbridge gh-extension install|uninstall`: `gh netbridge …` is `netbridge …`.

An extension of gh is a folder gh-NAME with an executable gh-NAME, and installing one from a local folder makes a link
to it among gh's data (`gh extension install .`). That link is made here without gh, which wants a login for it. The
executable is a script of two lines that starts this very program. All of it is the user's, under sudo of the one who
called sudo; `gh extension list` and `remove` know it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cyclopts

from netbridge.bridge.errors import BridgeError, NotPermittedError
from netbridge.bridge.user import User, helper_user, in_person

from .itself import program
from .text import clean

app = cyclopts.App(name="gh-extension", help="Make `gh netbridge` work.", help_format="plaintext", version_flags=[])
NAME = "gh-netbridge"


@app.command
def install() -> int:
    """Install an extension of gh that starts this netbridge. Repeated, it brings the extension up to date."""
    user = helper_user()
    folder, link = _places(user)
    words = " ".join(map(shlex.quote, program()))
    with _as(user):
        _refuse_another(link, folder)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / NAME
        file.write_text(f'#!/bin/sh\n# Written by netbridge gh-extension install.\nexec {words} "$@"\n')
        file.chmod(0o755)
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)
    print(clean(f"Installed {link}: `gh netbridge up` is `netbridge up`."), file=sys.stderr)
    if shutil.which("gh", path=user.environment.get("PATH")) is None:
        print("gh itself is not installed here; see cli.github.com.", file=sys.stderr)
    return 0


@app.command
def uninstall() -> int:
    """Remove that extension from gh."""
    user = helper_user()
    folder, link = _places(user)
    with _as(user):
        there = link.is_symlink() or folder.exists()
        if there:
            _refuse_another(link, folder)
            link.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    print("Removed gh netbridge." if there else "gh netbridge is not installed.", file=sys.stderr)
    return 0


def _places(user: User) -> tuple[Path, Path]:
    """Our folder, and the link by which gh knows it."""
    data = Path(user.environment.get("XDG_DATA_HOME") or user.home / ".local/share")
    return data / "netbridge" / NAME, data / "gh/extensions" / NAME


def _refuse_another(link: Path, folder: Path) -> None:
    if os.path.lexists(link) and not (link.is_symlink() and Path(os.readlink(link)) == folder):
        raise BridgeError(
            "gh has another extension called netbridge.", f"It is {link}.",
            "Remove that one first: gh extension remove netbridge.",
        )


@contextmanager
def _as(user: User) -> Iterator[None]:
    try:
        with in_person(user):
            yield
    except OSError as error:
        failure = NotPermittedError if isinstance(error, PermissionError) else BridgeError
        raise failure(
            f"The extension {error.filename} cannot be changed.", f"{error.strerror}.", "See whose folder that is.",
        ) from error
