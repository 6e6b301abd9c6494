"""aiohttp through a stack: a connector whose connections are the stack's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp

from ..face import Face
from ..names import by_name

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler


class StackConnector(aiohttp.TCPConnector):
    """For `aiohttp.ClientSession(connector=…)`; takes what aiohttp's TCPConnector takes of pool and TLS.

    Errors are aiohttp's own. Proxies are not supported. It leaves the stack open when it is closed.
    """

    def __init__(self, stack: Face, **more: Any) -> None:
        super().__init__(**more)
        self._stack = stack

    async def _create_connection(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> ResponseHandler:
        if req.proxy:
            raise aiohttp.ClientError("a StackConnector knows no proxies")
        context, key, host = self._get_ssl_context(req), req.connection_key, req.url.raw_host or req.host
        hostname = (req.server_hostname or host).rstrip(".") if context else None
        try:
            async with asyncio.timeout(timeout.sock_connect):
                transport, protocol = await by_name(self._stack, host, lambda address: self._stack.create_connection(
                    self._factory, address, req.port, ssl=context, server_hostname=hostname,
                ))
        except ssl.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(key, error) from error
        except socket.gaierror as error:
            raise aiohttp.ClientConnectorDNSError(key, error) from error
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {host} port {req.port} in time") from error
        except OSError as error:
            raise aiohttp.ClientConnectorError(key, error) from error
        if fingerprint := self._get_fingerprint(req):
            try:
                fingerprint.check(transport)
            except aiohttp.ServerFingerprintMismatch:
                transport.close()
                raise
        return protocol
