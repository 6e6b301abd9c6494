"""Initial sequence numbers (RFC 6528): a 4-microsecond clock plus a keyed hash of the connection's addresses."""

from __future__ import annotations

import hashlib
import os

from .seq import MASK

_TICKS_A_SECOND = 250_000


class IsnGenerator:
    """Keyed by 16 random bytes of its own, so that no two stacks share a secret."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = os.urandom(16) if secret is None else secret

    def initial(self, key: bytes, now: float) -> int:
        """The ISN for the connection with this `key` (both addresses and ports) at `now` seconds."""
        digest = hashlib.blake2s(key, digest_size=4, key=self._secret).digest()
        return (int.from_bytes(digest, "big") + int(now * _TICKS_A_SECOND)) & MASK
