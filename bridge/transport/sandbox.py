"""The sandbox: a private network namespace on this machine that plays the codespace.

One process (`unshare` and the script of sandbox_script.py) holds network, mount and process namespaces; it ends
when its stdin does, and with it everything that runs in the sandbox. netbridge holds the other end of that stdin,
so a bridge that is killed takes its sandbox along. An ordinary user gets a user namespace too, in which he is root.

The agent is started in it by `nsenter`, with a unix socket as stdin and stdout, so it can hand over its TUN's
descriptor (SCM_RIGHTS) and packets never pass a byte stream. COMMAND runs there as the user who called sudo; as
root when nobody did.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import BridgeError, TargetLacksError
from ..user import User, step_down
from .base import Channel, Transport
from .greeting import Greeting
from .process import ProcessChannel, start_process
from .sandbox_script import SCRIPT
from .terminal import run_on_terminal

PROMPT = "(sandbox) "
_SWITCHES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
)
"""What keeps an ordinary user from namespaces: file, the value that does, and the setting that allows it."""


HEEDS_INTERRUPTS = (
    "import os, signal, sys; "
    "[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGQUIT)]; "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
"""In Python, since a shell cannot undo an ignored signal that it was started with (POSIX, `trap`)."""


class SandboxTransport(Transport):
    """A private network namespace of this machine."""

    passes_descriptors = True

    def __init__(self, *, user: User, log: Callable[[str], None]) -> None:
        self._user = user
        """Who COMMAND runs as."""
        self._log = log
        self._holder: ProcessChannel | None = None
        self._pid = 0
        self._root = os.geteuid() == 0

    def __repr__(self) -> str:
        return f"<SandboxTransport process {self._pid}>"

    async def connect(self) -> None:
        for program in ("unshare", "nsenter", "setpriv", "mount"):
            if shutil.which(program) is None:
                raise TargetLacksError(
                    f"The sandbox needs the program {program}.", "It is not on the PATH.", "Install util-linux."
                )
        greeting = Greeting()
        argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        if not self._root:
            argv += ["--user", "--map-root-user"]
        secret = greeting.word.decode().strip().removeprefix("netbridge-")
        holder = start_process(
            [*argv, "/bin/sh", "-c", SCRIPT, "sandbox", secret],
            user=self._inside(),
            log=self._log,
            explain=_explain,
            cwd="/",
        )
        await greeting.wait(holder, self._log)
        self._holder = holder
        self._pid = await _Number(holder).read()

    async def open(self, command: str) -> Channel:
        argv = [*self._enter(), "/bin/sh", "-c", command]
        return start_process(argv, user=self._inside(), log=self._log, takes_descriptors=True, cwd="/")

    async def run(self, argv: Sequence[str]) -> int:
        # nsenter stays as the parent of what it runs in the process namespace, in the same process group. A ctrl-c
        # meant for COMMAND would end it, and with it the bridge; so it ignores what COMMAND shall not ignore.
        line = ["/bin/sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", *self._enter()]
        line += [sys.executable, "-I", "-S", "-c", HEEDS_INTERRUPTS]
        if self._user.differs:
            line += ["setpriv", f"--reuid={self._user.uid}", f"--regid={self._user.gid}", "--init-groups"]
        # Entering the mount namespace leads to its root folder: go back to where the user stands.
        line += ["/bin/sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", os.getcwd()]
        return await run_on_terminal(
            [*line, *(argv or [self._user.shell])],
            user=self._inside(),
            extra_environment=_prompt(self._user) if not argv else {"NETBRIDGE": "sandbox"},
            started=self._finished_as_root,
        )

    def _finished_as_root(self) -> None:
        """Nothing more is started there, and nothing of this sandbox has sent a packet yet: be who called sudo."""
        if why := step_down():
            self._log(f"this runs as root: {why}")

    async def close(self) -> None:
        holder, self._holder, self._pid = self._holder, None, 0
        if holder is not None:
            holder.close()
            await holder.wait_closed()

    def _enter(self) -> list[str]:
        if self._holder is None or self._holder.child.status is not None:
            said = self._holder.diagnostics() if self._holder else ""
            raise TargetLacksError(
                "The sandbox has ended.", said or "The process that held it is gone.", "Start the bridge again.",
            )
        namespaces = (
            ["--net", "--mount", "--pid"]
            if self._root
            else ["--user", "--preserve-credentials", "--net", "--mount", "--pid"]
        )
        return ["nsenter", f"--target={self._pid}", *namespaces, "--"]

    def _inside(self) -> User:
        """Who enters: ourselves, since that takes our privileges, but with the user's environment."""
        user = self._user
        return User(user.name, os.geteuid(), os.getegid(), (), user.home, user.shell, user.environment, differs=False)


class _Number:
    """A ChannelUser that reads one line with a number."""

    def __init__(self, channel: ProcessChannel) -> None:
        self._channel = channel
        self._line = b""
        self._number: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def read(self) -> int:
        self._channel.start(self)
        return await self._number

    def data_received(self, data: memoryview) -> None:
        self._line += data
        if b"\n" in self._line and not self._number.done():
            self._channel.pause(b"")
            self._number.set_result(int(self._line))

    def burst_ended(self) -> None:
        pass

    def channel_ready(self) -> None:
        pass

    def channel_lost(self, error: Exception | None) -> None:
        if not self._number.done():
            self._number.set_exception(error or _explain(None, ""))


def _prompt(user: User) -> dict[str, str]:
    """Environment that makes the common shells show where one is."""
    hint = {"NETBRIDGE": "sandbox", "PS1": f"{PROMPT}$ "}
    if re.search(r"(?:^|/)bash$", user.shell):
        # An rc file sets PS1 anew; this runs before each prompt.
        hint["PROMPT_COMMAND"] = f'PS1="{PROMPT}${{PS1#"{PROMPT}"}}"'
    return hint


def _explain(_status: int | None, text: str) -> BridgeError:
    last = text.splitlines()[-1] if text else ""
    if os.geteuid() != 0:
        for file, forbids, allows in _SWITCHES:
            try:
                value = Path(file).read_text().strip()
            except OSError:
                continue
            if value == forbids:
                return TargetLacksError(
                    "The kernel does not let an ordinary user make a sandbox.",
                    f"{file} is {value}. {last}".strip(),
                    f"Run `sudo sysctl -w {allows}`, or `sudo netbridge up sandbox`.",
                )
        return TargetLacksError("The sandbox could not be made.", last, "Run it as root: `sudo netbridge up sandbox`.")
    return TargetLacksError(
        "The sandbox could not be made.",
        last,
        "In a container it needs the capability SYS_ADMIN (docker run --privileged).",
    )
