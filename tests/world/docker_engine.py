"""A real Docker engine of the test run's own, from Debian's packages, unpacked and never installed.

It runs in namespaces of its own, without a network or in that of a machine of the world, and dies with the test run.
There is no registry either: its one image is a frame of folders, and containers see the programs of this machine's
/usr.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path

from .machine import Machine, Output, text, wait_until

IMAGE = "frame"
LINKS = ("bin", "sbin", "lib", "lib64")


class EngineError(Exception):
    """The engine does not start here; says why."""


class DockerEngine:
    """A running engine; a context manager."""

    def __init__(self, folder: Path, packages: Path, machine: Machine | None = None) -> None:
        """`folder` must be new; `packages`: docker.io, containerd and runc, unpacked. `machine`: whose network and
        resolv.conf it is to have; it then makes networks for containers there, and rules of the packet filter.
        """
        self.folder = folder
        self._machine = machine
        self.socket = folder / "docker.sock"
        self.bin = folder / "bin"
        """A folder for PATH, with `docker` alone: this machine's, or else the packages'."""
        self.debian_client = packages / "usr/bin/docker"
        self._packages = packages
        self._cgroups = [path for path in self._cgroup_folders() if not path.exists()]
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it."""
        return {"DOCKER_HOST": f"unix://{self.socket}"}

    def __enter__(self) -> DockerEngine:
        self.bin.mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.bin / "docker").symlink_to(shutil.which("docker") or self.debian_client)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        packages, machine = self._packages, self._machine
        network = ["unshare", "--net"]
        first, networks = "ip link set lo up", "--bridge=none --iptables=false"
        if machine:
            network = ["nsenter", "-t", str(machine.init), "-n"]
            first = f"mount --bind {machine.folder}/resolv.conf /etc/resolv.conf"
            networks = "--userland-proxy=false"
        script = (
            f"mount -t tmpfs tmpfs /run && mkdir /run/docker-exec && {first} && exec dockerd"
            f" --data-root {self.folder}/data --exec-root /run/docker-exec --pidfile /run/docker.pid"
            f" --host unix://{self.socket} {networks} --storage-driver=vfs --log-level=warn"
        )
        with open(self.folder / "log", "wb") as log:
            self._keeper = subprocess.Popen(
                [*network, "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
                 "--kill-child", "--mount-proc", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                env={
                    "PATH": f"{packages}/usr/sbin:{packages}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LD_LIBRARY_PATH": f"{packages}/usr/lib/{platform.machine()}-linux-gnu",
                },
            )  # fmt: skip
        keeper = self._keeper

        def answers() -> bool:
            if keeper.poll() is not None:
                lines = text((self.folder / "log").read_bytes()).splitlines()
                raise EngineError(lines[-1] if lines else f"it ended with {keeper.returncode}")
            return self.client("version").code == 0

        try:
            wait_until(answers, "the engine", 30, 0.1)
        except AssertionError as error:
            raise EngineError(f"{error}") from None
        self.client("import", "-", IMAGE, stdin=_frame()).check()

    def client(self, *words: str, stdin: bytes = b"", timeout: float = 30.0) -> Output:
        """Run this machine's `docker`."""
        done = subprocess.run(
            [self.bin / "docker", *words], input=stdin, capture_output=True, check=False, timeout=timeout,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        return Output(done.returncode, text(done.stdout), text(done.stderr), 0.0)

    def run(
        self, name: str, *options: str, program: tuple[str, ...] = ("sleep", "infinity"), network: str = "none"
    ) -> None:
        """Start a container, by default without a network, in which this machine's programs are found."""
        fixed = ("--detach", "--name", name, f"--network={network}", "--volume=/usr:/usr:ro")
        output = self.client("run", *fixed, *options, IMAGE, *program)
        if output.code:
            raise EngineError(f"no container starts: {output.stderr.strip()}")

    def inside(self, name: str, *argv: str, timeout: float = 30.0) -> Output:
        """Run a program in a container, as root."""
        return self.client("exec", "--user=0", name, *argv, timeout=timeout)

    def processes(self, name: str) -> list[str]:
        """The command lines of a container's processes."""
        lines = self.client("top", name, "-eo", "pid,args").check().stdout.splitlines()[1:]
        return [line.split(maxsplit=1)[1] for line in lines]

    def close(self) -> None:
        """End the containers, the engine, and what the kernel keeps of them."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.poll() is None:
            if names := self.client("ps", "--all", "--quiet").stdout.split():
                self.client("rm", "--force", *names)
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait(10)
        for path in self._cgroups:
            if path.exists():
                wait_until(lambda path=path: _removed(path), f"the end of {path}")  # type: ignore[misc]

    @staticmethod
    def _cgroup_folders() -> list[Path]:
        root = Path("/sys/fs/cgroup")
        if (root / "cgroup.controllers").exists():
            return [root / "docker"]
        return [path / "docker" for path in root.iterdir() if path.is_dir() and not path.is_symlink()]


def _removed(path: Path) -> bool:
    try:
        for inner in [*path.rglob("*/"), path]:
            inner.rmdir()
    except OSError:
        return False
    return True


def _frame() -> bytes:
    """A root folder as a tar archive: all but /usr."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "run", "root", "home"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name in LINKS:
            if Path("/", name).is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
                archive.addfile(link)
        for name in ("passwd", "group", "nsswitch.conf"):
            archive.add(f"/etc/{name}", f"etc/{name}")
    return data.getvalue()
