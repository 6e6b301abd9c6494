"""The real servers of a machine, each with its configuration in the machine's folder, and corp's DNS zone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .addresses import CODESPACE_RESOLVER, CORP, ECHO_PORT, HTTP_PORT, IPERF_PORT, POSTGRES_PORT, REDIS_PORT, url
from .machine import Machine, wait_until

ZONE = """
corp.test.            SOA   ns.corp.test. hostmaster.corp.test. 2024010101 3600 600 86400 300
corp.test.            NS    ns.corp.test.
corp.test.            MX    10 mail.corp.test.
corp.test.            TXT   "v=netbridge one" "second string"
ns.corp.test.         A     10.99.0.2
ns.corp.test.         AAAA  fd99::2
mail.corp.test.       A     10.99.0.2
www.corp.test.        A     10.99.0.2
www.corp.test.        AAAA  fd99::2
v4only.corp.test.     A     10.99.0.2
v6only.corp.test.     AAAA  fd99::2
alias.corp.test.      CNAME www.corp.test.
_http._tcp.corp.test. SRV   0 5 80 www.corp.test.
rebind4.corp.test.    A     127.0.0.1
meta.corp.test.       A     169.254.169.254
rebind6.corp.test.    AAAA  ::1
mapped.corp.test.     AAAA  ::ffff:127.0.0.1
laptop.corp.test.     A     10.99.0.1
*.many.corp.test.     A     10.99.0.2
null.corp.test.       TYPE10 \\# 4 01020304
"""

BIG_TEXTS = 24
"""TXT records of 200 bytes at big.corp.test: about 5 kB, too much for any UDP answer a resolver asks for."""


def corp_zone(machine: Machine) -> list[str]:
    """Unbound's configuration for the zone and its reverse. An auth-zone, as local data know no ANY."""
    records = [" ".join(line.split()) for line in ZONE.strip().splitlines()]
    records += [f'big.corp.test. TXT "{number:03d}{"x" * 197}"' for number in range(BIG_TEXTS)]
    zonefile = machine.folder / "corp.zone"
    zonefile.write_text("$TTL 3600\n" + "\n".join(records) + "\n")
    lines = ["auth-zone:", "  name: corp.test", f'  zonefile: "{zonefile}"', "  for-upstream: no", "server:"]
    lines += ["  local-zone: corp.test. transparent"]
    reverse = ".".join(reversed("fd990000000000000000000000000002")) + ".ip6.arpa."
    for zone, name in (("99.10.in-addr.arpa.", "2.0.99.10.in-addr.arpa."), ("9.9.d.f.ip6.arpa.", reverse)):
        lines += [f"  local-zone: {zone} static", f"  local-data: '{name} PTR www.corp.test.'"]
    return lines


def unbound(machine: Machine, listen: list[str], zone: list[str]) -> None:
    """A DNS server that knows `zone` and says NXDOMAIN for everything else."""
    configuration = machine.folder / "unbound.conf"
    configuration.write_text(
        "\n".join(
            [
                "server:",
                *(f"  interface: {address}" for address in listen),
                '  chroot: ""',
                '  username: ""',
                "  do-daemonize: no",
                "  use-syslog: no",
                '  logfile: ""',
                f'  pidfile: "{machine.folder}/unbound.pid"',
                "  access-control: 0.0.0.0/0 allow",
                "  access-control: ::0/0 allow",
                '  module-config: "iterator"',
                "  num-threads: 1",
                "  do-not-query-localhost: yes",
                '  local-zone: "." static',
                *zone,
                "remote-control:",
                "  control-enable: no",
                "",
            ]
        )
    )
    machine.start("unbound", "-d", "-c", configuration, log="unbound.log")


def nginx(machine: Machine, listen: Iterable[str]) -> Path:
    """A web server on these addresses; returns the folder it serves."""
    web = machine.folder / "www"
    web.mkdir()
    (web / "index.html").write_text(f"<h1>{machine.name}</h1>\n")
    addresses = "\n".join(f"    listen {url(address)}:{HTTP_PORT} backlog=4096;" for address in listen)
    configuration = machine.folder / "nginx.conf"
    configuration.write_text(f"""
user root;
daemon off;
worker_processes 1;
error_log stderr warn;
pid {machine.folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  send_timeout 600s;  # nginx's own minute would end downloads that wait for a connection that was cut for three
  keepalive_requests 100000000;
  client_body_temp_path {machine.folder}/nginx-body;
  proxy_temp_path {machine.folder}/nginx-proxy;
  fastcgi_temp_path {machine.folder}/nginx-fastcgi;
  scgi_temp_path {machine.folder}/nginx-scgi;
  uwsgi_temp_path {machine.folder}/nginx-uwsgi;
  server {{
{addresses}
    root {web};
    location = /small {{ default_type text/plain; return 200 "netbridge\\n"; }}
    location = /whoami {{ default_type text/plain; return 200 "$remote_addr\\n"; }}
  }}
}}
""")
    machine.start("nginx", "-e", "stderr", "-c", configuration, log="nginx.log")
    return web


def postgres_folder() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.split(".")[0]))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def unprivileged() -> str:
    """A user that PostgreSQL, which refuses root, can run as."""
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise LookupError("no user postgres or nobody")


def postgres(machine: Machine) -> None:
    """A PostgreSQL server with an empty cluster; anybody is user `postgres`."""
    programs = postgres_folder()
    assert programs is not None
    user = pwd.getpwnam(unprivileged())
    home = machine.folder / "postgres"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    options = (
        f"-c listen_addresses={CORP[4]},{CORP[6]} -c port={POSTGRES_PORT} -c unix_socket_directories={home} "
        "-c fsync=off -c shared_buffers=16MB -c max_connections=50 -c autovacuum=off"
    )
    script = (
        f"umask 077; {programs}/initdb --no-sync -A trust -U postgres -E UTF8 --no-locale -D {home}/data && "
        f"printf 'host all all all trust\\n' >> {home}/data/pg_hba.conf && "
        f"exec {programs}/postgres -D {home}/data {options}"
    )
    machine.start(
        "setpriv",
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "sh",
        "-c",
        script,
        log="postgres.log",
    )


def redis(machine: Machine) -> None:
    machine.start(
        "redis-server",
        "--port",
        str(REDIS_PORT),
        "--bind",
        *CORP.values(),
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
        machine.folder,
        log="redis.log",
    )


def iperf(machine: Machine) -> int:
    """A server for one iperf3 client, on the port returned; one that serves many may still be busy with the last."""
    port = next(port for port in range(IPERF_PORT, IPERF_PORT + 1000) if not machine.listens(port))
    machine.start("iperf3", "-s", "-1", "-p", str(port), log="iperf3.log")
    wait_until(lambda: machine.listens(port), "iperf3")
    return port


ECHO = """
import socket, sys, threading
def serve(address):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, int(sys.argv[1])))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)
for address in sys.argv[3:]:
    threading.Thread(target=serve, args=(address,)).start()
serve(sys.argv[2])
"""


def udp_echo(machine: Machine, listen: Iterable[str]) -> None:
    machine.start("python3", "-I", "-S", "-c", ECHO, str(ECHO_PORT), *listen, log="echo.log")


def codespace_resolver(machine: Machine) -> None:
    """The cloud's resolver, as the codespace knows it: a public name, and NXDOMAIN for everything else."""
    zone = ["  local-zone: public.test. static", "  local-data: 'www.public.test. A 203.0.113.80'"]
    unbound(machine, [CODESPACE_RESOLVER], zone)


def make_big_file(path: Path, size: int) -> None:
    """A file of `size` bytes that no compression and no repeated block makes small."""
    cipher = f"openssl enc -aes-128-ctr -nosalt -K {'5a' * 16} -iv {'00' * 16}"
    with open(path, "wb") as sink:
        subprocess.run(["sh", "-c", f"head -c {size} /dev/zero | {cipher}"], stdout=sink, check=True)
