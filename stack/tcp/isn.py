"""Where a connection's numbers begin: sequence numbers (RFC 6528: a 4-microsecond clock plus a keyed hash of the
connection's addresses and ports) and timestamps (RFC 7323, section 5.4: an offset of the same kind).
"""

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

    def stamp_offset(self, key: bytes) -> int:
        """What is added to the clock in the timestamps of the connection with this `key`: always the same."""
        digest = hashlib.blake2s(key, digest_size=4, key=self._secret, person=b"stamps").digest()
        return int.from_bytes(digest, "big")
