"""What to say where this machine itself refuses: no descriptor, no memory, no thread, no room on its disk."""

from __future__ import annotations

from errno import EAGAIN, EDQUOT, EFBIG, EIO, EMFILE, ENFILE, ENOBUFS, ENOLCK, ENOMEM, ENOSPC, EROFS

from .errors import BridgeError

_MEMORY = "End programs that need much memory, then start again."
_DISK = "Make room on that disk, then start again."
TODO = {
    EMFILE: "Raise the number of descriptors (`ulimit -n`), then start again.",
    ENFILE: "End programs that have many files open, then start again.",
    ENOMEM: _MEMORY, ENOBUFS: _MEMORY, EAGAIN: _MEMORY, ENOLCK: _MEMORY,
    ENOSPC: _DISK, EDQUOT: _DISK, EFBIG: "Raise the size that a file may have (`ulimit -f`), then start again.",
    EROFS: "Make that disk writable, then start again.",
    EIO: "See what the system's log says of that disk (`dmesg`).",
}
"""By errno."""


def todo(error: OSError, otherwise: str) -> str:
    """What to do about it: where resources are short, that; else `otherwise`."""
    return TODO.get(error.errno or 0, otherwise)


def refused(error: OSError | RuntimeError) -> BridgeError | None:
    """The failure where the system refused for want of a resource; None when it is of another kind.

    `error` may be the RuntimeError by which CPython says that there are no more threads.
    """
    if isinstance(error, OSError):
        if error.errno not in TODO:
            return None
        name = f"{error.filename}: " if error.filename else ""
        why, what_to_do = f"{name}{error.strerror}.", TODO[error.errno]
    elif "start new thread" in str(error):
        why, what_to_do = "It gives no more threads.", "End programs that run many threads, then start again."
    else:
        return None
    return BridgeError("This machine refuses what netbridge needs.", why, what_to_do)
