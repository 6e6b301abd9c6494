"""Plays the SSH server that DevPod runs at its tunnel's other end: an RSA host key, nobody is asked for a key, and each
command is run by a shell. A process of its own: `python devpod_server.py USERS` prints its port, and writes who logs in
to the file USERS, a line each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncssh


class Server(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        with Path(sys.argv[1]).open("a") as users:
            users.write(f"{username}\n")
        return False


async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run one command. Pipes, not asyncio's streams: of these asyncssh 2.24 reads twice at once when it was paused."""
    command = ["sh", "-c", process.command or "exec sh"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        status = await asyncio.get_running_loop().run_in_executor(None, child.wait)
        await process.stdout.drain()
        process.exit(status)


async def main() -> None:
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, process_factory=run, encoding=None,
        server_host_keys=[asyncssh.generate_private_key("ssh-rsa")],
    )  # fmt: skip
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
