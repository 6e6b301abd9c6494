"""The other end of a link over standard input and output: a stack that answers pings and echoes what comes to port 7.

Run as a program, by a pipe or by an SSH server. With an argument it does something else than greet.
"""

from __future__ import annotations

import asyncio
import sys

from netbridge.stack import Stack
from netbridge.stack.link import LinkError, stdio_link


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main() -> None:
    print("what is printed goes to standard error", file=sys.stderr)
    link = await stdio_link()
    print("this as well, or the link would break")
    async with Stack(link, ["10.0.0.2/24", "fd00::2/64"]) as stack:
        await stack.start_server(echo, None, 7)
        await link.wait_closed()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except LinkError as error:
        sys.exit(f"far end: {error}")
