"""A private network behind this machine, as behind a VPN: nginx, PostgreSQL, unbound and iperf3 in a namespace.

::

    this machine  10.77.0.1 ──── 10.77.0.2  corp   10.77.1.80 nginx   10.77.1.54 PostgreSQL
                  fd77::1         fd77::2          10.77.1.53 unbound 10.77.1.20 iperf3       (and fd77:1::/64)

The namespace lives as long as its holder process, and the holder as long as the demo (PR_SET_PDEATHSIG): with them go
the veth pair and the routes through it, however the demo ends. The servers run as an ordinary user and keep all they
write in one temporary folder.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from .probes import DATABASE, IPERF, RESOLVER, WEB

SERVERS = {"nginx": (WEB, 80), "PostgreSQL": (DATABASE, 5432), "unbound": (RESOLVER, 53), "iperf3": (IPERF, 5201)}
VETH = "nbdemo0"
TIED = ("setpriv", "--pdeathsig", "KILL")

SETUP = f"""
ip link add {VETH} type veth peer name corp0 netns {{pid}}
ip address add 10.77.0.1/30 dev {VETH}
ip address add fd77::1/64 dev {VETH} nodad
ip link set {VETH} up
ip route add 10.77.1.0/24 via 10.77.0.2
ip -6 route add fd77:1::/64 via fd77::2
"""
SETUP_CORP = """
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
ip link set lo up
ip address add 10.77.0.2/30 dev corp0
ip address add fd77::2/64 dev corp0 nodad
ip link set corp0 up
ip route add default via 10.77.0.1
ip -6 route add default via fd77::1
for last in 20 53 54 80; do
    ip address add 10.77.1.$last/32 dev lo
    ip address add fd77:1::$last/128 dev lo nodad
done
"""
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr crit;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 10.77.1.80:80; listen [fd77:1::80]:80;
        location / {{ return 200 "hello from intranet.corp.internal\\n"; }}
    }}
}}
"""
UNBOUND = """
server:
    interface: 10.77.1.53
    interface: fd77:1::53
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    do-daemonize: no
    use-syslog: no
    verbosity: 0
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    module-config: "iterator"
    local-zone: "." refuse
    local-zone: "corp.internal." static
    local-data: "intranet.corp.internal. A 10.77.1.80"
    local-data: "intranet.corp.internal. AAAA fd77:1::80"
    local-data: "db.corp.internal. A 10.77.1.54"
    local-data: "db.corp.internal. AAAA fd77:1::54"
    local-data: "_sql._tcp.corp.internal. SRV 0 5 5432 db.corp.internal."
remote-control:
    control-enable: no
"""


class CorpError(Exception):
    """The private network could not be built; the text says why."""


def program(name: str) -> str:
    """Where a server program is; Debian keeps PostgreSQL's outside PATH."""
    found = shutil.which(name)
    if found is None:
        elsewhere = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
        if not elsewhere:
            msg = f"the program {name} is missing; as root: scripts/system-packages demo"
            raise CorpError(msg)
        found = elsewhere[-1]
    return os.path.realpath(found)


def shell(script: str, *, pid: int | None = None) -> None:
    """Run a script of ip commands here or in the network namespace of `pid`."""
    enter = [] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net"]
    done = subprocess.run([*enter, "sh", "-ec", script], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"the private network could not be built: {done.stderr.strip()}"
        raise CorpError(msg)


class Corp(contextlib.AbstractContextManager["Corp"]):
    """The network and its servers, from `__enter__` to `__exit__`. Call from the main thread: the kernel ties to it."""

    def __init__(self, *, uid: int | None) -> None:
        self._uid = uid
        """Non-root start: the uid outside this user namespace, which servers see as theirs; None for real root."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self.folder = Path()

    def __enter__(self) -> Corp:
        if os.path.exists(f"/sys/class/net/{VETH}"):
            msg = f"a link {VETH} exists already; is another demo running?"
            raise CorpError(msg)
        self.folder = Path(tempfile.mkdtemp(prefix="netbridge-demo-"))
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the servers, latest first; the holder of the namespace is the last, and the links go with it."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait_for(self, name: str) -> None:
        """Return once a server accepts connections from this machine."""
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(SERVERS[name], timeout=1).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    log = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                    msg = f"{name} does not answer ({error}): {' / '.join(log[-3:])}"
                    raise CorpError(msg) from error
                time.sleep(0.05)
            else:
                return

    def _build(self) -> None:
        holder = subprocess.Popen(
            [*TIED, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._processes.append(holder)
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            if holder.poll() is not None or time.monotonic() > deadline:
                msg = "this machine does not allow network namespaces here (CAP_SYS_ADMIN is missing)"
                raise CorpError(msg)
            time.sleep(0.01)
        shell(SETUP.format(pid=holder.pid))
        shell(SETUP_CORP, pid=holder.pid)
        for name, argv in self._servers():
            with (self.folder / f"{name}.log").open("wb") as log:
                self._processes.append(subprocess.Popen(
                    ["nsenter", f"--net=/proc/{holder.pid}/ns/net", *self._ordinary(), *argv],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder))

    def _servers(self) -> Iterator[tuple[str, Sequence[str]]]:
        folder = self.folder
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        (folder / "unbound.conf").write_text(UNBOUND.format(folder=folder))
        if self._uid is None:
            shutil.chown(folder, self._user().pw_uid, self._user().pw_gid)
        yield "nginx", [program("nginx"), "-c", f"{folder}/nginx.conf", "-p", str(folder), "-e", "stderr"]
        yield "unbound", [program("unbound"), "-c", f"{folder}/unbound.conf"]
        yield "iperf3", [program("iperf3"), "--server", "--bind", IPERF]
        cluster = folder / "cluster"
        made = subprocess.run(
            [*self._ordinary(), program("initdb"), "--pgdata", str(cluster), "--username", "demo", "--auth", "trust",
             "--no-sync", "--locale", "C", "--encoding", "UTF8"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, check=False)
        if made.returncode != 0:
            msg = f"initdb failed: {made.stderr.strip()}"
            raise CorpError(msg)
        with (cluster / "pg_hba.conf").open("a") as hba:
            hba.write("host all demo 10.77.0.0/16 trust\nhost all demo fd77::/16 trust\n")
        yield "PostgreSQL", [
            program("postgres"), "-D", str(cluster), "-k", str(folder),
            "-c", f"listen_addresses={DATABASE},fd77:1::54", "-c", "fsync=off", "-c", "max_connections=20"]

    def _ordinary(self) -> list[str]:
        """The prefix that makes a command run as an ordinary user and end with the demo."""
        if self._uid is not None:
            return ["unshare", "--user", f"--map-user={self._uid}", f"--map-group={self._uid}", *TIED]
        user = self._user()
        return [*TIED, "--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]

    @staticmethod
    def _user() -> pwd.struct_passwd:
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(name)
        msg = "neither the user postgres nor nobody exists; PostgreSQL refuses to run as root"
        raise CorpError(msg)
