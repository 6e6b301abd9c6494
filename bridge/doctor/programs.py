"""Helper programs: ssh and its agent, gh, and those that single targets want; and whose they are under sudo."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from ..errors import BridgeError, TargetLacksError
from ..startfaults import printable
from ..transport.asked import Answer, ask_program
from ..transport.container_target import DevpodTarget, DockerTarget, KubernetesTarget
from ..transport.gh import Gh
from ..transport.target import CodespaceTarget, SshTarget, Target
from ..user import User
from .report import Check, fault, note, ok, warning

PATIENCE = 10.0
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


async def checks(target: Target | None, user: User) -> AsyncIterator[Check]:
    """`target`: the one that is wanted; None: any."""
    yield sudo(os.geteuid(), user, user.told)
    wants_ssh = isinstance(target, (SshTarget, CodespaceTarget, DevpodTarget))
    if target is None or wants_ssh:
        program = _which("ssh", user)
        yield ssh(program, await _ask([program, "-V"], user) if program else None)
        yield await _agent(user)
    if target is None or isinstance(target, CodespaceTarget):
        yield await _gh(user, wanted=target is not None)
    for kind, name in ((DockerTarget, "docker"), (KubernetesTarget, "kubectl"), (DevpodTarget, "devpod")):
        if target is None and _which(name, user):
            yield note(name, _which(name, user))
        elif target is not None and isinstance(target, kind):
            yield wanted(name, _which(name, user), target)


def sudo(uid: int, user: User, environment_known: bool) -> Check:
    """Whose helpers these are. `environment_known`: what sudo dropped could be read from the process above us."""
    about = {"uid": uid, "user": user.name}
    if not user.differs:
        if uid == 0:
            return note("user", "root: ssh and gh use root's own keys and logins, not another user's", **about)
        return ok("user", f"{user.name}; only the sandbox may want sudo", **about)
    if environment_known:
        return ok("user", f"root by sudo; ssh and gh run as {user.name}, with that environment", **about)
    lost = [name for name in ("SSH_AUTH_SOCK", *PROXIES[:1]) if name not in user.environment]
    if not lost:
        return ok("user", f"root by sudo; ssh and gh run as {user.name}", **about)
    return warning(
        "user", f"root by sudo, and the environment of {user.name} is lost",
        f"{' and '.join(lost)} are not known to helpers.",
        f"Say sudo --preserve-env={','.join(lost)}, or do without sudo: only the sandbox may want it.", **about,
    )


def ssh(program: str, version: Answer | None) -> Check:
    """`version`: what `ssh -V` said."""
    if not program:
        return warning(
            "ssh", "there is no ssh program", "asyncssh is used, which carries about half as much and knows less of"
            " ~/.ssh/config.", "Install openssh-client.",
        )
    said = printable(version.stderr.splitlines()[-1] if version and version.stderr else "") or "no version"
    return ok("ssh", f"{said} ({program})", version=said, program=program)


def agent(path: str, status: int | None, listed: str) -> Check:
    """SSH_AUTH_SOCK, and what `ssh-add -l` ended with: 0 keys, 1 none, 2 nobody there; None: it could not be asked."""
    if not path:
        return note("ssh-agent", "none (SSH_AUTH_SOCK is not set); keys with a passphrase ask on the terminal")
    if status == 0:
        count = len([line for line in listed.splitlines() if line.strip()])
        return ok("ssh-agent", f"{count} key{'' if count == 1 else 's'}", keys=count)
    if status == 1:
        return note("ssh-agent", "it holds no key (ssh-add adds one)", keys=0)
    return warning("ssh-agent", "it does not answer", f"SSH_AUTH_SOCK is {printable(path)}.",
                   "Start a new one (`eval $(ssh-agent)`), or unset SSH_AUTH_SOCK.")  # fmt: skip


def wanted(name: str, program: str, target: object) -> Check:
    """A program that the target is reached by."""
    if program:
        return ok(name, program)
    return fault(name, TargetLacksError(
        f"There is no {name} program on this machine.", f"{target} is reached by it.", f"Install {name}.",
    ))


async def _agent(user: User) -> Check:
    path = user.environment.get("SSH_AUTH_SOCK", "")
    program = _which("ssh-add", user)
    answer = await _ask([program, "-l"], user) if path and program else None
    if path and not program:
        return note("ssh-agent", f"at {printable(path)}, unasked: there is no ssh-add")
    return agent(path, answer.status if answer else None, answer.stdout.decode("utf-8", "replace") if answer else "")


async def _gh(user: User, *, wanted: bool) -> Check:
    gh = Gh(user)
    try:
        await gh.check()
        found = await gh.codespaces()
    except BridgeError as error:
        return gh_fault(error, wanted=wanted)
    told = await _ask([gh.program, "--version"], gh.user)
    version = printable(told.stdout.decode("utf-8", "replace").partition("\n")[0]) if told else ""
    said = f"logged in, {len(found)} codespace{'' if len(found) == 1 else 's'}{_proxy(user.environment)}"
    return ok("gh", f"{said} ({version or 'no version'})", program=gh.program, version=version)


def gh_fault(error: BridgeError, *, wanted: bool) -> Check:
    """Without a codespace in view it only matters to those."""
    if wanted:
        return fault("gh", error)
    return warning("gh", error.what, error.why, f"For codespaces: {error.todo}")


def _proxy(environment: Mapping[str, str]) -> str:
    name = next((name for name in PROXIES if environment.get(name)), "")
    return f", by {name}" if name else ""


def _which(name: str, user: User) -> str:
    found = shutil.which(name, path=user.environment.get("PATH"))
    return str(Path(found).absolute()) if found else ""


async def _ask(argv: list[str], user: User) -> Answer | None:
    try:
        return await ask_program(argv, user, patience=PATIENCE)
    except (BridgeError, TimeoutError):
        return None
