"""Which cipher carries a link fastest here.

Measured through SSH on one core: aes128-gcm 2.7 to 4.3 Gbit/s where the processor has AES instructions,
chacha20-poly1305 (SSH's default) 0.9 to 1.4. Without AES instructions it is the other way round, so the default
stays.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

FASTEST_WITH_AES = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@functools.cache
def processor_has_aes() -> bool:
    """Whether the processor has AES instructions."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return "aes" in line.split()
    except OSError:
        # Every 64-bit Intel and ARM machine that macOS runs on has them.
        return sys.platform == "darwin" and platform.machine() in ("arm64", "x86_64")
    return False


def preferred(ciphers: Sequence[str], *, aes: bool | None = None) -> list[str]:
    """The same ciphers, the fastest first. One that is not in the list, because the user took it out, is not
    brought back.
    """
    if not (processor_has_aes() if aes is None else aes):
        return list(ciphers)
    first = [cipher for cipher in FASTEST_WITH_AES if cipher in ciphers]
    return first + [cipher for cipher in ciphers if cipher not in first]
