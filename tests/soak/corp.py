"""A TCP server in corp for what no ordinary server does. The first line of a connection says what is wanted.

    GIVE n seed     n bytes that follow from the seed, then the end
    TAKE seed       everything until the client's end (a half-close); then length and SHA-256 of it, and more bytes
    ECHO            what comes goes back, until the client ends
    RESET n seed    n bytes; when the client has said that it has them, a reset
    LEFT            wait until the client is gone, by a reset or otherwise
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading

from tests.world import World
from tests.world.addresses import CORP

PORT = 7700
CHUNK = 65536
STALL = 40.0
"""Seconds without a byte that loss can explain. A retransmission waits 2 s, the next ones 4, 8 and 16; each is lost
with 2 % at most (it, or its acknowledgement). A silence of 2 + 4 + 8 + 16 s needs five losses in a row: once in
300 million packets."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: close means reset."""
ANSWER = 50_000
"""Bytes that answer a TAKE after its checksum: a half-closed flow has to carry them."""


def content(seed: int, size: int) -> bytes:
    """The same bytes for the same seed, and no two chunks alike."""
    return random.Random(seed).randbytes(size)


class Server:
    """Listens on both of corp's addresses until it is closed; a thread a connection."""

    def __init__(self, world: World, patience: float) -> None:
        """`patience`: seconds until a LEFT connection, whose reset was lost, is ended from here."""
        self.open = 0
        """Connections there are at present."""
        self._lock = threading.Lock()
        self.errors: list[str] = []
        self._patience = patience
        self._over = threading.Event()
        self._listeners = [world.corp.listen(address, PORT) for address in CORP.values()]
        for listener in self._listeners:
            listener.settimeout(0.5)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Listen no more; connections still open end by themselves."""
        self._over.set()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._over.is_set():
                try:
                    connection = listener.accept()[0]
                except TimeoutError:
                    continue
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open += 1
        try:
            self._converse(connection)
        finally:
            with self._lock:
                self.open -= 1

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(STALL)
            try:
                line = b""
                while not line.endswith(b"\n") and (byte := connection.recv(1)):
                    line += byte
                if line:
                    command, *numbers = line.decode().split()
                    getattr(self, f"_{command.lower()}")(connection, *map(int, numbers))
            except OSError:
                pass  # the client's side of the conversation tells whether that was right
            except Exception as error:
                self.errors.append(f"corp's server: {type(error).__name__}: {error}")

    def _give(self, connection: socket.socket, size: int, seed: int) -> None:
        data = memoryview(content(seed, size))
        for at in range(0, size, CHUNK):
            connection.sendall(data[at : at + CHUNK])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    def _take(self, connection: socket.socket, seed: int) -> None:
        total, digest = 0, hashlib.sha256()
        while data := connection.recv(CHUNK):
            digest.update(data)
            total += len(data)
        connection.sendall(f"{total} {digest.hexdigest()}\n".encode() + content(seed, ANSWER))

    def _echo(self, connection: socket.socket) -> None:
        connection.settimeout(None)  # idle ones live as well
        while data := connection.recv(CHUNK):
            connection.sendall(data)

    def _reset(self, connection: socket.socket, size: int, seed: int) -> None:
        connection.sendall(content(seed, size))
        connection.recv(1)  # the client has them all
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _left(self, connection: socket.socket) -> None:
        connection.settimeout(self._patience)
        while connection.recv(CHUNK):
            pass
