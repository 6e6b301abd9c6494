"""Which machine (and user) this is, for the other end: it tells a bridge of this machine from somebody else's.

The name is a random one, kept among the user's own files: a host name is no identity, and /etc/machine-id is the same
in every container of an image and is meant to stay on its machine (machine-id(5)).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

import platformdirs

from .user import User, in_person

FILE = "machine"


def identity(user: User) -> dict[str, Any]:
    """`id`, and `name` and `user` for people. Where nothing can be kept the id is new each time."""
    file = _folder(user) / FILE
    name = ""
    try:
        with in_person(user):
            if file.exists():
                name = file.read_text("ascii").strip()[:64]
            if not name:
                name = secrets.token_hex(16)
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(descriptor, "w") as stream:
                    stream.write(name + "\n")
    except (OSError, ValueError):
        name = name or secrets.token_hex(16)
    return {"id": name, "name": socket.gethostname(), "user": user.name}


def _folder(user: User) -> Path:
    if sys.platform == "linux":
        return Path(user.environment.get("XDG_STATE_HOME") or user.home / ".local" / "state", "netbridge")
    path = platformdirs.user_state_path("netbridge", appauthor=False)
    own_home = Path.home()
    return user.home / path.relative_to(own_home) if user.differs and path.is_relative_to(own_home) else path
