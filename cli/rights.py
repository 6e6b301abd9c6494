"""When a command that was called by sudo stops being root: at once, unless root has work to do first.

That work is a sandbox's namespaces, a TUN of this machine and a listener on a port below 1024; such a command is marked
and steps down by itself when it is done. Who asks a bridge that root itself runs, without sudo, has to stay root.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from netbridge.bridge import runtime
from netbridge.bridge.user import helper_user, step_down

Function = TypeVar("Function", bound=Callable[..., Any])


def by_itself(function: Function) -> Function:
    """Mark a command that steps down by itself."""
    function.steps_down_by_itself = True  # type: ignore[attr-defined]
    return function


def before(function: Callable[..., Any]) -> None:
    """Step down before this command runs, if it is to be so."""
    if not getattr(function, "steps_down_by_itself", False):
        unless_root_has_a_bridge()


def unless_root_has_a_bridge() -> str:
    """Step down, if no bridge of root's own runs, which only root may ask; why not, if so."""
    user = helper_user()
    if not user.is_another:
        return ""
    path = runtime.place(os.environ, owner=0)
    if path != runtime.place(user.environment, owner=user.uid) and path.is_dir():
        with runtime.Folder(path, owner=0) as folder:
            if folder.running():
                return "root has a bridge of its own"
    return step_down()
