"""A folder by HTTP/1.1: GET and HEAD of files (RFC 9110), connections that stay open, and nothing more.

A path is followed as far as the folder reaches: what leads out of it, by dots or by links, is not found.
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
import os
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

HEAD_MAX = 16 * 1024
"""Bytes of a request's head."""
CHUNK = 256 * 1024
IDLE = 60.0
"""Seconds a client may take for its next request, and for each chunk of a file."""


class Files:
    """To be given to `Stack.start_server`: `await stack.start_server(Files(folder), None, 80)`."""

    def __init__(self, folder: str | Path) -> None:
        """Raises NotADirectoryError."""
        self._root = Path(folder).resolve()
        if not self._root.is_dir():
            raise NotADirectoryError(f"{folder} is no folder")

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with as many requests as the client likes."""
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):  # gone, silent, or its head was too long
            pass
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow."""
        async with asyncio.timeout(IDLE):
            head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > HEAD_MAX:
            return await _tell(writer, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, keep=False)
        line, *fields = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or words[2] not in {"HTTP/1.0", "HTTP/1.1"}:
            return await _tell(writer, HTTPStatus.BAD_REQUEST, keep=False)
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        wish = headers.get("connection", "").lower()
        keep = wish == "keep-alive" if words[2] == "HTTP/1.0" else wish != "close"
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            keep = False  # its body is not read
        if words[0] not in {"GET", "HEAD"}:
            return await _tell(writer, HTTPStatus.NOT_IMPLEMENTED, keep=keep)
        only_head = words[0] == "HEAD"
        found = await asyncio.to_thread(self._find, words[1])
        if found is None:
            return await _tell(writer, HTTPStatus.NOT_FOUND, keep=keep, only_head=only_head)
        if isinstance(found, str):
            return await _tell(writer, HTTPStatus.MOVED_PERMANENTLY, keep=keep, only_head=only_head, location=found)
        if isinstance(found, bytes):
            return await _tell(writer, HTTPStatus.OK, found, keep=keep, only_head=only_head)
        path, file, size = found
        with file:
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            writer.write(_head(HTTPStatus.OK, kind, size, keep=keep))
            while not only_head and size > 0:
                data = file.read(min(CHUNK, size))
                if not data:
                    return False  # it became shorter
                size -= len(data)
                writer.write(data)
                async with asyncio.timeout(IDLE):  # a client that does not read holds an open file
                    await writer.drain()
        return keep

    def _find(self, target: str) -> tuple[Path, BinaryIO, int] | bytes | str | None:
        """The file, the page of a folder, where a folder really is, or None."""
        try:
            path = unquote(urlsplit(target).path)
        except ValueError:  # "//[": half an address
            return None
        if "\0" in path:
            return None
        try:
            place = (self._root / path.lstrip("/")).resolve()
            if not place.is_relative_to(self._root):
                return None
            if place.is_dir():
                if not path.endswith("/"):
                    return quote(f"/{path.strip('/')}/")
                if not (place / "index.html").is_file():
                    return _listing(place, path)
                place = (place / "index.html").resolve()
            if not place.is_file() or not place.is_relative_to(self._root):
                return None
            file = place.open("rb")
            return place, file, os.fstat(file.fileno()).st_size
        except (OSError, RuntimeError):  # no permission, too long a name, links in a circle
            return None


def _listing(folder: Path, shown: str) -> bytes:
    names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in folder.iterdir())
    rows = "".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    title = html.escape(shown)
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>\n<ul>\n{rows}</ul>\n".encode()


async def _tell(
    writer: asyncio.StreamWriter, status: HTTPStatus, body: bytes | None = None, *, keep: bool, only_head: bool = False,
    location: str = "",
) -> bool:  # fmt: skip
    """A page of our own, of a folder or about a failure; returns `keep`."""
    page = f"<!doctype html><title>{status.phrase}</title><h1>{status.phrase}</h1>\n".encode() if body is None else body
    writer.write(_head(status, "text/html; charset=utf-8", len(page), keep=keep, location=location))
    if not only_head:
        writer.write(page)
    await writer.drain()
    return keep


def _head(status: HTTPStatus, kind: str, size: int, *, keep: bool, location: str = "") -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}", f"Date: {formatdate(usegmt=True)}", "Server: netbridge",
        f"Content-Type: {kind}", f"Content-Length: {size}", f"Connection: {'keep-alive' if keep else 'close'}",
        *([f"Location: {location}"] if location else []),
    ]  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
