"""Real web servers of this machine behind an exit: nginx with TLS and HTTP/2, and one that says what was sent to it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from netbridge.bridge import Entrance, Exit
from netbridge.bridge.dns import Upstream
from netbridge.bridge.forward.policy import Policy
from netbridge.stack import memory_link
from tests.stack.networks import NAME, certificate

HERE, ALIAS = "127.0.0.1", "10.77.0.1"
BIG = bytes(range(256)) * 20_000
"""5 MB."""


@dataclass(frozen=True)
class Web:
    """Where the servers are, by the entrance."""

    entrance: Entrance
    exit: Exit
    plain: int
    """nginx's ports."""
    secure: int
    telling: int
    """The other one's."""

    @property
    def connections(self) -> int:
        """Connects that left by the exit."""
        return self.exit.statistics().tcp.connected


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HERE, 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="package")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Its port without TLS, and the one with TLS and HTTP/2."""
    if not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("the program nginx is missing: scripts/system-packages test")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "both.pem").write_bytes(certificate())
    (folder / "index.html").write_text("hello from nginx\n")
    (folder / "big").write_bytes(BIG)
    folder.chmod(0o755)
    plain, secure = free_port(), free_port()
    config = folder / "nginx.conf"
    paths = "".join(f"{one}_temp_path {folder}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(f"""
        daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
        {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 256; }}
        http {{
            access_log off; {paths}
            server {{
                listen {HERE}:{plain};
                listen {HERE}:{secure} ssl http2;
                ssl_protocols TLSv1.3; ssl_certificate {folder}/both.pem; ssl_certificate_key {folder}/both.pem;
                root {folder};
                location /once {{ keepalive_timeout 0; return 200 "once"; }}
                location /version {{ return 200 $server_protocol; }}
                location /moved {{ return 302 /version; }}
            }}
        }}""")
    server = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config)], env=os.environ | {
        "PATH": os.environ["PATH"] + ":/usr/sbin"}, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(500):
            with socket.socket() as one:
                one.settimeout(0.2)
                if not one.connect_ex((HERE, secure)):
                    break
            if server.poll() is not None:
                pytest.fail((folder / "error.log").read_text())
            try:
                server.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        yield plain, secure
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
async def net(
    nginx: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> AsyncIterator[Web]:  # fmt: skip
    (tmp_path / "hosts").write_text(f"{ALIAS} {NAME}\n")
    (tmp_path / "resolv.conf").write_text("")
    monkeypatch.setattr(
        "netbridge.bridge.exit.Upstream",
        partial(Upstream, hosts=str(tmp_path / "hosts"), resolv_conf=str(tmp_path / "resolv.conf")),
    )

    async def tell(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/sleep":
            await asyncio.sleep(60)
        size, digest = 0, hashlib.sha256()
        async for piece in request.content.iter_any():
            size += len(piece)
            digest.update(piece)
        return web.json_response({"method": request.method, "size": size, "sha": digest.hexdigest()})

    runner = web.ServerRunner(web.Server(tell), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HERE, port := free_port())
    await site.start()
    one, other = memory_link()
    aliases = {socket.inet_aton(ALIAS): socket.inet_aton(HERE)}
    try:
        async with Exit(other, policy=Policy(allow=[HERE], aliases=aliases)) as exit_, Entrance(one) as entrance:
            yield Web(entrance, exit_, *nginx, port)
    finally:
        await runner.cleanup()
