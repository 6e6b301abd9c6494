"""Drivers that open their own sockets, asyncpg, SQLAlchemy, redis, through an entrance and an exit to real servers."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from netbridge.bridge import Entrance, Exit
from netbridge.bridge.forward.policy import Policy
from netbridge.stack import memory_link
from tests.world.servers import postgres_folder, unprivileged

HERE, ALIAS = "127.0.0.1", "10.77.0.1"


@pytest.fixture
async def entrance() -> AsyncIterator[Entrance]:
    one, other = memory_link()
    aliases = {socket.inet_aton(ALIAS): socket.inet_aton(HERE)}
    async with Exit(other, policy=Policy(allow=[HERE], aliases=aliases)), Entrance(one) as entrance:
        yield entrance


def free_port() -> int:
    with socket.socket() as one:
        one.bind((HERE, 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def started(port: int, *argv: str | Path) -> Iterator[None]:
    """A server, from the moment that it listens."""
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        for _ in range(600):
            with socket.socket() as one:
                if not one.connect_ex((HERE, port)):
                    break
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"{argv[0]} ended")
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL that lets anybody in as `postgres`."""
    programs = postgres_folder()
    if programs is None:
        pytest.skip("the program postgres is missing: scripts/system-packages test")
    prefix: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            user = pwd.getpwnam(unprivileged())
            os.chown(folder, user.pw_uid, user.pw_gid)
            prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        make = ["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-D", f"{folder}/data"]
        subprocess.run([*prefix, programs / "initdb", *make], check=True, capture_output=True, cwd="/")
        port = free_port()
        run = ["-D", f"{folder}/data", "-p", str(port), "-k", folder, "-h", HERE, "-F"]
        with started(port, *prefix, programs / "postgres", *run):
            yield port


async def test_asyncpg(entrance: Entrance, postgres: int) -> None:
    async with await entrance.forward(ALIAS, postgres) as server:
        host, port = server.sockets[0].getsockname()
        connection = await asyncpg.connect(host=host, port=port, user="postgres", ssl=False)
        await connection.execute("CREATE TEMP TABLE numbers (n int)")
        await connection.executemany("INSERT INTO numbers VALUES ($1)", [(n,) for n in range(500)])
        assert await connection.fetchval("SELECT sum(n) FROM numbers") == 124_750
        assert len(await connection.fetchval("SELECT repeat('x', 3000000)")) == 3_000_000
        await connection.close()


async def test_sqlalchemy(entrance: Entrance, postgres: int) -> None:
    async with await entrance.forward(ALIAS, postgres) as server:
        host, port = server.sockets[0].getsockname()
        engine = create_async_engine(f"postgresql+asyncpg://postgres@{host}:{port}/postgres", pool_size=4)

        async def ask(number: int) -> int:
            async with engine.connect() as connection:
                found: int = (await connection.execute(text("SELECT :n * 2").bindparams(n=number))).scalar_one()
                return found

        assert await asyncio.gather(*map(ask, range(12))) == [2 * number for number in range(12)]
        await engine.dispose()


async def test_redis(entrance: Entrance, tmp_path: Path) -> None:
    if not shutil.which("redis-server"):
        pytest.skip("the program redis-server is missing: scripts/system-packages test")
    port = free_port()
    with started(port, "redis-server", "--port", str(port), "--bind", HERE, "--save", "", "--dir", str(tmp_path)):
        async with await entrance.forward(ALIAS, port) as server:
            local = server.sockets[0].getsockname()
            async with redis.asyncio.Redis(host=local[0], port=local[1]) as client:
                await client.set("key", b"v" * 1_000_000)
                assert await client.get("key") == b"v" * 1_000_000
                async with client.pipeline() as pipe:
                    for _ in range(200):
                        pipe.incr("count")
                    assert (await pipe.execute())[-1] == 200
