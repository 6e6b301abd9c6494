"""httpx through a stack: its own transport, with a connection pool whose connections are the stack's."""

from __future__ import annotations

import ssl

import httpcore
import httpx

from ..face import Face
from .backend import StackBackend

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)
"""httpx's own defaults."""


class StackTransport(httpx.AsyncHTTPTransport):
    """For `httpx.AsyncClient(transport=…)`: HTTP/1.1, with `http2` HTTP/2 where the server offers it, TLS.

    `verify` is an SSLContext; True: the authorities that httpx knows; False: anybody. `retries` are of connects that
    fail. Errors are httpx's own. It leaves the stack open when it is closed.
    """

    def __init__(
        self, stack: Face, *, verify: ssl.SSLContext | bool = True, http1: bool = True, http2: bool = False,
        limits: httpx.Limits = LIMITS, retries: int = 0,
    ) -> None:  # fmt: skip
        # In the place of its base's own, which does the same but cannot be told where connections come from.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify), max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections, keepalive_expiry=limits.keepalive_expiry,
            http1=http1, http2=http2, retries=retries, network_backend=StackBackend(stack),
        )
