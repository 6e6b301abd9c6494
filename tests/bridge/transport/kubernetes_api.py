"""A local HTTP server that plays the part of a Kubernetes API that the real kubectl asks to run something in a pod: the
discovery of `pods`, one pod, and exec over a WebSocket (RFC 6455) with the subprotocol v5.channel.k8s.io, in which the
first byte of each message is the channel: 0 to 2 are the standard streams, 3 the exit status, 255 the end of a stream.
Commands run on this machine.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import socket
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

STDIN, STDOUT, STDERR, STATUS, CLOSED = 0, 1, 2, 3, 255
BINARY, END = 0x82, 0x88


@dataclass
class Cluster:
    """What the server knows and was asked."""

    pods: dict[str, list[str]] = field(default_factory=lambda: {"default/web": ["app", "sidecar"]})
    """namespace/name to containers."""
    phase: str = "Running"
    status: int = 200
    message: str = ""
    """With another status than 200: what the server says to everything about pods."""
    exec_fails: str = ""
    """What becomes of each command instead of being run."""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    """The queries of each exec."""


class Api:
    """The running server; a context manager."""

    def __init__(self) -> None:
        self.cluster = cluster = Cluster()

        class Handler(_Handler):
            pass

        Handler.cluster = cluster
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Api:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def configuration(self, *contexts: str, current: str = "") -> str:
        """A kubeconfig in which each context is this server."""
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": current,
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "a-token"}}],
            "contexts": [{"name": name, "context": {"cluster": "here", "user": "me"}} for name in contexts],
        })  # fmt: skip


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        if split.path == "/api":
            self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif split.path == "/apis":
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        elif split.path == "/api/v1":
            pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}
            self.answer(200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": [pods]})
        elif split.path == "/version":
            self.answer(200, {"major": "1", "minor": "32", "gitVersion": "v1.32.4"})
        elif split.path.startswith("/api/v1/namespaces/"):
            self.pod(split.path.split("/"), parse_qs(split.query))
        else:
            self.refuse(404, "NotFound", "the server could not find the requested resource")

    def do_POST(self) -> None:
        """What kubectl tries after a WebSocket was refused: SPDY, which is refused for the same reason."""
        self.do_GET()

    def pod(self, parts: list[str], query: dict[str, list[str]]) -> None:
        cluster = self.cluster
        if cluster.status != 200:
            self.refuse(cluster.status, {401: "Unauthorized", 403: "Forbidden"}[cluster.status], cluster.message)
            return
        namespace, name = parts[4], parts[6]
        containers = cluster.pods.get(f"{namespace}/{name}")
        if containers is None:
            self.refuse(404, "NotFound", f'pods "{name}" not found')
        elif parts[-1] != "exec":
            spec = {"containers": [{"name": container} for container in containers]}
            meta = {"name": name, "namespace": namespace}
            self.answer(200, {
                "kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": {"phase": cluster.phase},
            })  # fmt: skip
        elif query["container"][0] not in containers:
            self.refuse(400, "BadRequest", f"container {query['container'][0]} is not valid for pod {name}")
        else:
            cluster.asked.append(query)
            self.execute(query)

    def refuse(self, code: int, reason: str, message: str) -> None:
        self.answer(code, {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
            "code": code,
        })  # fmt: skip

    def answer(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def execute(self, query: dict[str, list[str]]) -> None:
        digest = hashlib.sha1(f"{self.headers['Sec-WebSocket-Key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest.digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        self._sending = threading.Lock()
        if self.cluster.exec_fails:
            self.send(STATUS, _failure(self.cluster.exec_fails, None))
            self.frame(END, struct.pack("!H", 1000))
            return
        with subprocess.Popen(
            query["command"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin and process.stdout and process.stderr
            receiver = threading.Thread(target=self.receive, args=(process.stdin,), daemon=True)
            receiver.start()
            errors = threading.Thread(target=self.pump, args=(process.stderr, STDERR), daemon=True)
            errors.start()
            self.pump(process.stdout, STDOUT)
            errors.join()
            status = process.wait()
            with contextlib.suppress(OSError):  # the client hung up first
                self.connection.shutdown(socket.SHUT_RD)
            receiver.join()  # who uses a file must not find it closed
        self.send(STATUS, b'{"metadata":{},"status":"Success"}' if not status else _failure(
            f"command terminated with non-zero exit code: {status}", status
        ))  # fmt: skip
        self.frame(END, struct.pack("!H", 1000))

    def pump(self, source: IO[bytes], channel: int) -> None:
        while data := source.read1(32768):  # type: ignore[attr-defined]
            self.send(channel, data)

    def send(self, channel: int, data: bytes) -> None:
        self.frame(BINARY, bytes([channel]) + data)

    def frame(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        head = struct.pack("!BB", kind, size) if size < 126 else struct.pack("!BBH", kind, 126, size)
        with self._sending:
            try:
                self.wfile.write(head + payload)
            except OSError:  # the client is gone
                pass

    def receive(self, sink: IO[bytes]) -> None:
        """What the client sends, until it closes its stream or goes away."""
        message = b""
        while len(head := self.rfile.read(2)) == 2:
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self.rfile.read(2 if size == 126 else 8))
            mask = self.rfile.read(4)
            masked = self.rfile.read(size)
            repeated = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(masked) ^ int.from_bytes(repeated)).to_bytes(size)
            kind = head[0] & 0x0F
            if kind == 9:  # a ping
                self.frame(0x8A, payload)
            if kind > 2:
                continue
            message += payload
            if not head[0] & 0x80:
                continue
            channel, data, message = message[0], message[1:], b""
            if channel == CLOSED and data[0] == STDIN:
                break
            if channel == STDIN:
                with contextlib.suppress(OSError):  # the command reads no more
                    sink.write(data)
                    sink.flush()
        with contextlib.suppress(OSError):
            sink.close()


def _failure(message: str, status: int | None) -> bytes:
    details = {"causes": [{"reason": "ExitCode", "message": str(status)}]} if status is not None else {}
    reason = "NonZeroExitCode" if status is not None else "InternalError"
    return json.dumps({
        "metadata": {}, "status": "Failure", "message": message, "reason": reason, "details": details, "code": 500,
    }).encode()  # fmt: skip
