"""What flows lead to: an echo for TCP and UDP, a nameserver; each a thread with plain sockets.

Threads of the test's own, so that none of their calls is taken for netbridge's.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import dnslib

HERE = "127.0.0.1"
ANSWER = "192.0.2.7"


class Servers:
    """All of them, as long as it is open."""

    def __init__(self, folder: Path) -> None:
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.tcp = self._serve(socket.create_server((HERE, 0)), self._accepting)
        self.udp = self._serve(self._datagrams(), self._echo_datagrams)
        self.dns = self._serve(self._datagrams(), self._answer_names)
        with socket.create_server((HERE, 0)) as closed:
            self.closed_tcp: int = closed.getsockname()[1]
        """Nobody listens there."""
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {HERE}\nsearch corp.test\n")
        self.hosts = folder / "hosts"
        self.hosts.write_text("192.0.2.9 printer.corp.test\n")
        self.nsswitch = folder / "nsswitch.conf"
        self.nsswitch.write_text("hosts: files dns\n")

    @staticmethod
    def _datagrams() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HERE, 0))
        return sock

    def _serve(self, sock: socket.socket, work: Callable[[socket.socket], None]) -> int:
        self._sockets.append(sock)
        self._begin(work, sock)
        port: int = sock.getsockname()[1]
        return port

    def _begin(self, work: Callable[[socket.socket], None], sock: socket.socket) -> None:
        def run() -> None:
            with contextlib.suppress(OSError):
                work(sock)

        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(thread := threading.Thread(target=run, daemon=True))
        thread.start()

    def _accepting(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            connection.settimeout(10)
            self._begin(self._echo, connection)

    @staticmethod
    def _echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    @staticmethod
    def _echo_datagrams(sock: socket.socket) -> None:
        while True:
            data, peer = sock.recvfrom(1 << 16)
            if data == b"end":
                return
            sock.sendto(data, peer)

    @staticmethod
    def _answer_names(sock: socket.socket) -> None:
        while True:
            data, peer = sock.recvfrom(1 << 16)
            if data == b"end":
                return
            reply = dnslib.DNSRecord.parse(data).reply()
            reply.add_answer(dnslib.RR(reply.q.qname, 1, 1, 60, dnslib.A(ANSWER)))
            sock.sendto(bytes(reply.pack()), peer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            for port in (self.udp, self.dns):
                last.sendto(b"end", (HERE, port))
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()
