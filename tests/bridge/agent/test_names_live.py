"""The message `names` as programs over there feel it: private suffixes and search list change while they run."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import SETUP, Place
from .test_agent import until

pytestmark = pytest.mark.net

OWN, SERVICE = "127.99.0.1", "127.98.0.1"
LASTING = """
import socket, sys
for line in sys.stdin:
    try:
        print(sorted({found[4][0] for found in socket.getaddrinfo(line.strip(), 80, socket.AF_INET)}), flush=True)
    except socket.gaierror:
        print("unknown", flush=True)
"""
"""One process of glibc's that asks again and again, as a server does."""


def unbound(folder: Path, address: str, *records: str) -> Path:
    """unbound's configuration: these names, and NXDOMAIN for everything else."""
    path = folder / f"unbound-{address}.conf"
    lines = ["server:", f" interface: {address}", ' chroot: ""', ' username: ""', " do-daemonize: no"]
    lines += [" use-syslog: no", f' pidfile: "{folder}/{address}.pid"', " access-control: 0.0.0.0/0 allow"]
    lines += [' module-config: "iterator"', ' local-zone: "." static', *(f" local-data: '{it}'" for it in records)]
    path.write_text("\n".join([*lines, "remote-control:", " control-enable: no", ""]))
    return path


def answers(words: list[str]) -> bool:
    output = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return bool(output) and not output.startswith(";")


async def test_a_running_program_follows_suffixes_and_search_list(place: Place, tmp_path: Path) -> None:
    if not shutil.which("unbound", path="/usr/sbin:/usr/bin") or not shutil.which("dig"):
        pytest.skip("needs unbound and dig (packages unbound, bind9-dnsutils)")
    own = unbound(tmp_path, OWN, "wiki.vpn.example. A 10.0.0.1", "db.old.example. A 10.0.0.2")
    service = unbound(tmp_path, SERVICE, "wiki.vpn.example. A 10.9.9.1", "intranet.vpn.example. A 10.9.9.2")
    tmp_path.chmod(0o755)
    agent = await place.agent(before="ip link set lo up;")
    enter = place.enter(agent)
    running = [
        subprocess.Popen([*enter, "unbound", "-d", "-c", path], stderr=subprocess.DEVNULL) for path in (own, service)
    ]
    lasting = subprocess.Popen(
        [*enter, "python3", "-c", LASTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        assert lasting.stdin is not None
        assert lasting.stdout is not None

        def ask(name: str) -> str:
            print(name, file=lasting.stdin, flush=True)
            return lasting.stdout.readline().strip()  # type: ignore[union-attr]

        for server, name in ((OWN, "wiki.vpn.example"), (SERVICE, "intranet.vpn.example")):
            words = [*enter, "dig", "+short", "+tries=1", "+time=1", f"@{server}", name]
            await until(functools.partial(answers, words), f"{server} answers")
        await agent.setup({**SETUP, "dns": {"mode": "auto", "service": [SERVICE], "suffixes": [], "search": []}})
        assert ask("wiki.vpn.example") == "['10.0.0.1']"  # the codespace's own answer
        assert ask("intranet") == "unknown"
        await agent.change_names(["vpn.example"], ["vpn.example"])
        assert ask("wiki.vpn.example") == "['10.9.9.1']"  # this machine's
        assert ask("intranet") == "['10.9.9.2']"
        assert ask("db") == "['10.0.0.2']"  # the codespace's own list goes on
        await agent.change_names([], [])
        assert ask("wiki.vpn.example") == "['10.0.0.1']"
        assert ask("intranet") == "unknown"
        await agent.stop()
        assert ask("db") == "['10.0.0.2']"
    finally:
        for server_process in running:
            server_process.kill()
            server_process.wait()
        lasting.kill()
        lasting.communicate()
