"""A QUIC echo server and its client, as programs: `serve CERT KEY PORT HOST...` and `ask CERT HOST PORT SIZE`.

The client sends bytes on one stream, closes its half and reads everything back; it prints one JSON object.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration

ALPN = ["echo"]
TASKS: set[asyncio.Task[None]] = set()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await asyncio.sleep(0)
    writer.write_eof()


def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.ensure_future(echo(reader, writer))
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)


async def server(certificate: str, key: str, port: int, hosts: list[str]) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN)
    configuration.load_cert_chain(certificate, key)
    for host in hosts:
        await serve(host, port, configuration=configuration, stream_handler=answer)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def client(authority: str, host: str, port: int, size: int) -> None:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=ALPN)
    configuration.load_verify_locations(authority)
    data = random.Random(size).randbytes(size)
    begun = time.monotonic()
    async with asyncio.timeout(25), connect(host, port, configuration=configuration) as protocol:
        shaken = time.monotonic()
        reader, writer = await protocol.create_stream()
        writer.write(data)
        writer.write_eof()
        received = await reader.read()
    report = {
        "sent": hashlib.sha256(data).hexdigest(), "received": hashlib.sha256(received).hexdigest(),
        "bytes": len(received), "handshake": shaken - begun, "seconds": time.monotonic() - begun,
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "serve":
        asyncio.run(server(words[0], words[1], int(words[2]), words[3:]))
    else:
        asyncio.run(client(words[0], words[1], int(words[2]), int(words[3])))
