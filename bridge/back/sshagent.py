"""Whose ssh-agent is forwarded (`up --forward-agent`)."""

from __future__ import annotations

import socket

from ..errors import UsageError
from ..options import Options
from ..user import User, helper_user, in_person

TODO = "Start one (eval $(ssh-agent); ssh-add) and netbridge from the same shell, or leave --forward-agent out."


def auth_socket(options: Options) -> tuple[str, User | None]:
    """(path of the socket, who may use it), empty and None when it was not asked for.

    Raises UsageError when nobody answers there: better now than at the first `git push` over there.
    """
    if not options.forward_agent:
        return "", None
    user = helper_user()
    path = user.environment.get("SSH_AUTH_SOCK", "")
    if not path:
        raise UsageError("There is no ssh-agent to forward.", "SSH_AUTH_SOCK is not set here.", TODO)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, in_person(user):
            asking.settimeout(1.0)
            asking.connect(path)
    except OSError as error:
        why = f"SSH_AUTH_SOCK is {path}: {error.strerror or error}."
        raise UsageError("There is no ssh-agent to forward.", why, TODO) from None
    return path, user
