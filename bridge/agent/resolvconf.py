"""Putting the DNS stub into resolv.conf, and taking it out again byte for byte.

The file is edited in place and never renamed over, since in containers it is often a bind mount, and elsewhere a
symbolic link. Everything needed to undo the edit is in the edited file itself, so that a later start can heal what a
power loss or the end of a whole process tree left behind, and nothing else is written to disk:

    # netbridge: head
    nameserver 127.83.0.1
    # netbridge: original
    ...the original bytes; with `alone`, its nameserver lines commented out with "#netbridge# "...
    # netbridge: tail
    search ...
    # netbridge: end

Undoing removes the blocks and the comment marks and keeps every other byte, so edits that somebody else made
meanwhile survive. glibc tries nameservers in order (resolv.conf(5)), hence the stub comes first and a dead stub
costs one refused datagram. musl asks all at once and takes the first answer, hence there the stub stands alone. Of
several `search` lines the last one counts, hence ours comes last.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import socket
from typing import List, NamedTuple, Sequence

PATH = "/etc/resolv.conf"
BEHIND = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")
"""Where systemd-resolved and NetworkManager (with dnsmasq) say whom they ask, as resolv.conf names only themselves."""
HEAD = b"# netbridge: head (put back when the bridge ends)\n"
ORIGINAL = b"# netbridge: original\n"
TAIL = b"# netbridge: tail\n"
TAIL_CUT = b"\n# netbridge: tail of a file without a last newline\n"
END = b"# netbridge: end\n"
CREATED = b"# netbridge: there was no file\n"
MARK = b"#netbridge# "
MUSLS_LINE = 256
"""Bytes of a line, its newline and a zero byte included, that musl reads; it skips a longer one as a whole."""
LIMIT = 1 << 20
"""No resolv.conf is larger; a bigger file is left alone."""


class Resolver(NamedTuple):
    """What a resolv.conf says."""

    nameservers: List[str]
    search: List[str]
    rotate: bool


def parse(text: bytes) -> Resolver:
    """Nameservers and search list as glibc reads them; `domain` counts as a search list of one."""
    nameservers: List[str] = []
    search: List[str] = []
    rotate = False
    for line in text.split(b"\n"):  # no other character ends a line for the C library, or for `edit`
        words = [word.decode("utf-8", "replace") for word in line.split()]
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            rotate = rotate or "rotate" in words[1:]
    return Resolver(nameservers, search, rotate)


def is_musl() -> bool:
    """Whether programs here use musl, which asks all nameservers in parallel."""
    return bool(glob.glob("/lib/ld-musl-*"))


def edit(original: bytes, nameserver: str, search: Sequence[str], *, alone: bool, created: bool = False) -> bytes:
    """The edited file. `search` is appended to the original's own list; empty: no search line of ours."""
    body = original
    if alone:
        lines = original.split(b"\n")
        body = b"\n".join(MARK + line if line.split()[:1] == [b"nameserver"] else line for line in lines)
    cut = bool(original) and not original.endswith(b"\n")
    text = HEAD + (CREATED if created else b"") + b"nameserver " + nameserver.encode() + b"\n" + ORIGINAL + body
    text += TAIL_CUT if cut else TAIL
    if search:
        names = parse(original).search
        names = names + [name for name in search if name not in names]
        while alone and len(" ".join(["search", *names]).encode()) >= MUSLS_LINE - 1:
            names.pop()
        text += b"search " + " ".join(names).encode() + b"\n"
    return text + END


def undo(text: bytes) -> bytes:
    """The text without anything of ours: what `edit` was given, and other people's later edits. Idempotent."""
    while HEAD in text:
        before, rest = text.split(HEAD, 1)
        if ORIGINAL in rest:
            rest = rest.split(ORIGINAL, 1)[1]
        text = before + rest
    for tail in (TAIL_CUT, TAIL):
        while tail in text:
            before, rest = text.split(tail, 1)
            text = before + (rest.split(END, 1)[1] if END in rest else b"")
    return text.replace(MARK, b"")


def read(path: str = PATH) -> bytes:
    """The file's bytes; OSError when it cannot be read, or is no resolv.conf by its size."""
    with open(path, "rb") as file:
        text = file.read(LIMIT + 1)
    if len(text) > LIMIT:
        raise OSError("%s is larger than %d bytes" % (path, LIMIT))
    return text


def _write(path: str, text: bytes, flags: int = 0) -> None:
    """Write in place, then cut, so that a reader never finds an empty file. Until the cut blank lines stand where a
    longer old text ended, so that nobody reads a piece of it either.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
    try:
        view = memoryview(text.ljust(os.fstat(descriptor).st_size, b"\n"))
        offset = 0
        while offset < len(view):
            offset += os.pwrite(descriptor, view[offset:], offset)
        os.ftruncate(descriptor, len(text))
    finally:
        os.close(descriptor)


def install(nameserver: str, search: Sequence[str], *, alone: bool, path: str = PATH) -> None:
    """Put the stub in. OSError when the file cannot be changed; it is then as it was."""
    try:
        original = undo(read(path))
    except FileNotFoundError:
        real = os.path.realpath(path)  # a link that leads nowhere stays one
        _write(real, edit(b"", nameserver, search, alone=alone, created=True), os.O_CREAT | os.O_EXCL)
        return
    edited = edit(original, nameserver, search, alone=alone)
    try:
        _write(path, edited)
    except OSError:
        heal(path)
        raise


def heal_leftover(path: str = PATH) -> bool:
    """`heal`, unless a stub still listens where the file says: then another bridge lives, and the edit is its own."""
    try:
        text = read(path)
    except FileNotFoundError:
        return False
    if HEAD in text:
        for nameserver in parse(text.split(HEAD, 1)[1].split(ORIGINAL, 1)[0]).nameservers:
            if _listens(nameserver):
                return False
    return heal(path)


def _listens(nameserver: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((nameserver, 53))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def heal(path: str = PATH) -> bool:
    """Take anything of ours out, from this run or an earlier one; whether there was something. OSError as `install`."""
    try:
        text = read(path)
    except FileNotFoundError:
        return False
    restored = undo(text)
    if restored == text:
        return False
    if CREATED in text and not restored:
        os.unlink(os.path.realpath(path))
    else:
        _write(path, restored)
    return True
