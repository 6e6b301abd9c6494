"""The pre-shared key: 256 random bits as one line of text, in a file or in an environment variable.

Never typed by people and never derived from what they can remember: the proofs made with it (:mod:`.proof`) may be
seen by anybody, and stand as long as it cannot be guessed. A key of another form is therefore refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Mapping

from ..errors import BridgeError, NotPermittedError, UsageError

VARIABLE = "NETBRIDGE_LINK_PSK"
PREFIX = "nbk1_"
"""Says what a leaked string is, to people and to scanners of repositories."""
SIZE = 32
"""Bytes: no search through all of them will ever end."""
READ = 4096
MORE = "`netbridge link key FILE` makes one"


def make() -> str:
    """A new key, as text."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(SIZE)).rstrip(b"=").decode()


def parse(text: str, where: str) -> bytes:
    """The key's bytes. Raises UsageError, which does not repeat the text."""
    words = text.strip()
    if words.startswith(PREFIX):
        try:
            digits = words.removeprefix(PREFIX)
            key = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            key = b""
        if len(key) == SIZE:
            return key
    raise UsageError(f"{where} holds no key.", f"A key is one line that begins with {PREFIX}.", f"{MORE}.")


def read(path: str) -> bytes:
    """The key in a file. Raises UsageError or NotPermittedError, also where others may read or change it."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(READ)
    except OSError as error:
        raise UsageError(f"The key in {path} cannot be read.", f"{error.strerror}.", f"{MORE}.") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise NotPermittedError(
            f"The key in {path} is not secret.", f"Others than its owner may use it (mode {mode:04o}).",
            f"Make a new one, and keep it: chmod 600 {path}.",
        )
    return parse(data.decode("utf-8", "replace"), path)


def write(path: str) -> None:
    """A new key into a new file that nobody else can read. Raises BridgeError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already.", "A key in use would be lost.", "Name another file, or remove that one.",
        ) from error
    except OSError as error:
        raise BridgeError(f"{path} cannot be written.", f"{error.strerror}.", "Name another file.") from error
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(make() + "\n")


def found(path: str | None, environment: Mapping[str, str]) -> bytes | None:
    """The key of a file, else of the variable, else None."""
    if path is not None:
        return read(path)
    text = environment.get(VARIABLE)
    return parse(text, f"The variable {VARIABLE}") if text else None
