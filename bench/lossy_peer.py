"""Linux's end of a lossy line: `lossy_peer.py PORT sink|source ADDRESS SECONDS`. CUBIC, blocking sockets, no more.

sink: says 0 when it listens, takes one connection, counts for so long from the first byte on, says the bits.
source: says 0 and waits for a line, then says how long connect() took, then writes until it is reset or killed.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

PIECE = 1 << 16
RESET = struct.pack("ii", 1, 0)


def said(figure: float) -> None:
    print(figure, flush=True)


def tcp() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return made


def sink(address: str, port: int, seconds: float) -> None:
    listener = tcp()
    listener.bind((address, port))
    listener.listen(1)
    said(0)
    connection, _ = listener.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    buffer = bytearray(1 << 20)
    total = connection.recv_into(buffer)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            total += connection.recv_into(buffer)
        except TimeoutError:
            break
    said(total * 8)
    connection.close()


def source(address: str, port: int) -> None:
    made = tcp()
    said(0)
    sys.stdin.readline()
    begun = time.perf_counter()
    made.connect((address, port))
    said(time.perf_counter() - begun)
    piece = bytes(PIECE)
    try:
        while True:
            made.sendall(piece)
    except ConnectionError:
        pass


def main() -> None:
    port, what, address, seconds = sys.argv[1:]
    if what == "sink":
        sink(address, int(port), float(seconds))
    else:
        source(address, int(port))


if __name__ == "__main__":
    main()
