"""Linux's end of a long transfer, by itself so that each end has a processor: `long_peer.py HOST PORT BYTES`.

Connects, sends so many bytes while it reads as many, half-closes, and prints the SHA-256 of what it read. The bytes are
pieces of 64 KiB that begin with their number: one that is missing, doubled or out of place changes the sum.
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import sys
import threading
from collections.abc import Iterator

PIECE = 1 << 16
_NUMBER = struct.Struct("!Q")
_REST = random.Random(10).randbytes(PIECE - _NUMBER.size)


def pieces(size: int, salt: int) -> Iterator[bytes]:
    """`size` bytes of the stream that `salt` names."""
    for number in range(-(-size // PIECE)):
        left = size - number * PIECE
        yield (_NUMBER.pack(salt << 48 | number) + _REST)[:left]


def digest(size: int, salt: int) -> str:
    """Of the whole stream."""
    found = hashlib.sha256()
    for piece in pieces(size, salt):
        found.update(piece)
    return found.hexdigest()


def main() -> None:
    host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    made.connect((host, port))

    def send() -> None:
        for piece in pieces(size, 1):
            made.sendall(piece)
        made.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    found, total = hashlib.sha256(), 0
    buffer = bytearray(1 << 20)
    while count := made.recv_into(buffer):
        total += count
        found.update(memoryview(buffer)[:count])
    sender.join()
    print(total, found.hexdigest(), flush=True)


if __name__ == "__main__":
    main()
