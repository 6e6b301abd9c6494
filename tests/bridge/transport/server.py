"""A real sshd on loopback with keys and configuration of its own, and the client's side: nothing touches ~/.ssh.

The client's home holds a ~/.ssh/config with a host for each case; asyncssh finds it by HOME, and `ssh`, which asks the
user database for the home, by a wrapper on PATH that says -F.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

NOISE = "Welcome to this machine!\\nIt has 3 updates. \\033[31mRed\\033[0m"
_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def missing_programs() -> str | None:
    """Which of the programs is missing, if any."""
    for name, found in (("sshd", _SSHD), ("ssh", shutil.which("ssh")), ("ssh-keygen", shutil.which("ssh-keygen"))):
        if found is None:
            return name
    return None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def keygen(path: Path, passphrase: str = "") -> str:
    """Make a key pair; the public key's two words."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


class SshServer:
    """sshd, a server that closes at once, one that never answers, and a home folder that knows them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.ssh = self.home / ".ssh"
        self.port, self.noisy_port = free_port(), free_port()
        self.refused_port = free_port()
        self.agent = folder / "agent"
        """Where a test may start an ssh-agent."""
        self._stop = threading.Event()
        self._listeners: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._prepare()

    def environment(self) -> dict[str, str]:
        """What the client's environment must hold."""
        return {"HOME": str(self.home), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def __enter__(self) -> SshServer:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        assert _SSHD is not None
        self._process = subprocess.Popen(
            [_SSHD, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "sshd.log"]
        )
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.02)

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
        self._stop.set()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)  # closing alone wakes nobody who waits in accept
            listener.close()

    def _prepare(self) -> None:
        self.ssh.mkdir(parents=True, mode=0o700)
        host_key, other = keygen(self.folder / "host"), keygen(self.folder / "other")
        right = keygen(self.ssh / "id_ed25519")
        keygen(self.ssh / "wrong")
        locked = keygen(self.ssh / "locked", "open sesame")
        (self.folder / "authorized_keys").write_text(f"{right}\n{locked}\n")
        (self.folder / "banner").write_text("Authorised use only\n")
        (self.folder / "noisy").write_text(f'printf "{NOISE}"\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n')
        (self.folder / "sshd_config").write_text(
            f"""
            ListenAddress 127.0.0.1:{self.port}
            ListenAddress 127.0.0.1:{self.noisy_port}
            HostKey {self.folder}/host
            PidFile none
            AuthorizedKeysFile {self.folder}/authorized_keys
            StrictModes no
            UsePAM no
            PermitRootLogin yes
            PasswordAuthentication no
            KbdInteractiveAuthentication no
            MaxStartups 100
            Banner {self.folder}/banner
            Match LocalPort {self.noisy_port}
                ForceCommand /bin/sh {self.folder}/noisy
            """
        )
        known = "".join(f"[127.0.0.1]:{port} {host_key}\n" for port in (self.port, self.noisy_port))
        (self.ssh / "known_hosts").write_text(known)
        (self.ssh / "known_nobody").write_text("")
        (self.ssh / "known_other").write_text(f"[127.0.0.1]:{self.port} {other}\n")
        closes, silent = self._listener(closes=True), self._listener(closes=False)
        wrapper = self.folder / "bin" / "ssh"
        (self.ssh / "config").write_text(
            f"""
            Host good
            Host noisy
                Port {self.noisy_port}
            Host wrongkey
                IdentityFile {self.ssh}/wrong
            Host locked
                IdentityFile {self.ssh}/locked
            Host agent
                IdentityFile {self.ssh}/locked
                IdentityAgent {self.agent}
            Host unknown
                UserKnownHostsFile {self.ssh}/known_nobody
            Host changed
                UserKnownHostsFile {self.ssh}/known_other
            Host trusting
                UserKnownHostsFile {self.ssh}/known_trusting
                StrictHostKeyChecking accept-new
            Host careless
                UserKnownHostsFile {self.ssh}/known_other
                StrictHostKeyChecking no
            Host asking
                UserKnownHostsFile {self.ssh}/known_asked
            Host proxied
                ProxyCommand {wrapper} -W %h:%p good 2>/dev/null
            Host badproxy
                ProxyCommand echo no way >&2; exit 1
            Host jumped
                ProxyJump good
            Host round
                ProxyJump round
            Host refused
                Port {self.refused_port}
            Host closes
                Port {closes}
            Host silent
                Port {silent}
                ConnectTimeout 2
            Host nowhere
                HostName no-such-host.invalid
            Host * !wrongkey !locked !agent
                IdentityFile {self.ssh}/id_ed25519
            Host *
                HostName 127.0.0.1
                Port {self.port}
                IdentitiesOnly yes
                IdentityAgent none
                UserKnownHostsFile {self.ssh}/known_hosts
                GlobalKnownHostsFile /dev/null
            """
        )
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.ssh}/config "$@"\n')
        wrapper.chmod(0o755)

    def _listener(self, *, closes: bool) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)

        def hold(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while connection.recv(65536):  # until the client has gone
                    pass

        def serve() -> None:
            while not self._stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                if closes:
                    connection.close()
                else:
                    threading.Thread(target=hold, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])
