"""aiohttp through an entrance and an exit, to real servers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ssl
import subprocess
import sys

import aiohttp
import pytest

import netbridge.stack.http
from netbridge.stack.http import StackConnector
from tests.stack.networks import NAME, certificate, contexts

from .conftest import ALIAS, BIG, Web, free_port


def session(net: Web, **more: object) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=StackConnector(net.entrance, **more), timeout=aiohttp.ClientTimeout(total=10)
    )


async def test_requests_share_a_connection(net: Web) -> None:
    async with session(net) as http:
        for _ in range(5):
            async with http.get(f"http://{NAME}:{net.plain}/") as answer:
                assert await answer.text() == "hello from nginx\n"
        assert net.connections == 1
        await asyncio.gather(*(download(http, f"http://{NAME}:{net.plain}/big") for _ in range(4)))


async def download(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url) as answer:
        assert await answer.read() == BIG


async def test_tls(net: Web) -> None:
    context = contexts()[1]
    der = ssl.PEM_cert_to_DER_cert(certificate().decode().partition("-----END PRIVATE KEY-----\n")[2])
    right, wrong = (aiohttp.Fingerprint(hashlib.sha256(one).digest()) for one in (der, b""))
    async with session(net) as http:
        url = f"https://{NAME}:{net.secure}/version"
        for trusted in (context, right, False):
            async with http.get(url, ssl=trusted) as answer:
                assert await answer.text() == "HTTP/1.1"
        with pytest.raises(aiohttp.ServerFingerprintMismatch):
            await http.get(url, ssl=wrong)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(url)
        with pytest.raises(aiohttp.ClientConnectorSSLError):
            await http.get(f"https://{NAME}:{net.plain}/version", ssl=context)


async def test_uploads(net: Web) -> None:
    async with session(net) as http, http.post(f"http://{ALIAS}:{net.telling}/", data=io.BytesIO(BIG)) as answer:
        assert await answer.json() == {"method": "POST", "size": len(BIG), "sha": hashlib.sha256(BIG).hexdigest()}


@pytest.mark.unbalanced(reason="it takes the forwarder away from under requests, and its server sleeps on")
async def test_errors_are_aiohttps_own(net: Web) -> None:
    async with session(net) as http:
        with pytest.raises(aiohttp.ClientConnectorError, match="refused"):
            await http.get(f"http://{ALIAS}:{free_port()}/")
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await http.get("http://nobody.test/")
        with pytest.raises(aiohttp.ClientError, match="proxies"):
            await http.get(f"http://{ALIAS}:{net.plain}/", proxy=f"http://{ALIAS}:1")
        with pytest.raises(TimeoutError):
            await http.get(f"http://{ALIAS}:{net.telling}/sleep", timeout=aiohttp.ClientTimeout(sock_read=0.1))
        net.exit.stack.tcp.forward = lambda request: request.drop()
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await http.get(f"http://{ALIAS}:{net.plain}/", timeout=aiohttp.ClientTimeout(sock_connect=0.1))


@pytest.mark.parametrize(("name", "package"), [("StackTransport", "httpcore"), ("StackConnector", "aiohttp")])
def test_a_package_that_is_missing_is_named_with_the_extra(name: str, package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import netbridge.stack.http as http\n"
        "try:\n"
        f"    http.{name}\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == f'{name} needs {package}: pip install "netbridge[http]"\n'
    with pytest.raises(AttributeError):
        netbridge.stack.http.Nothing  # noqa: B018
