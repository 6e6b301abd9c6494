"""httpx through an entrance and an exit, to real servers."""

from __future__ import annotations

import asyncio
import hashlib

import httpx
import pytest

from netbridge.stack.http import StackTransport
from netbridge.stack.http.backend import StackBackend
from tests.stack.networks import NAME, contexts

from .conftest import ALIAS, BIG, Web, free_port


def client(net: Web, **more: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=StackTransport(net.entrance, verify=contexts()[1], **more), timeout=10)  # type: ignore[arg-type]


async def test_requests_share_a_connection(net: Web) -> None:
    async with client(net) as http:
        for _ in range(5):
            answer = await http.get(f"http://{NAME}:{net.plain}/")
            assert answer.text == "hello from nginx\n"
            assert answer.http_version == "HTTP/1.1"
        assert net.connections == 1
        stream = answer.extensions["network_stream"]
        assert stream.get_extra_info("server_addr") == (ALIAS, net.plain)
        assert stream.get_extra_info("client_addr")[0] == "198.18.255.2"


async def test_tls_and_a_redirect(net: Web) -> None:
    async with client(net) as http:
        answer = await http.get(f"https://{NAME}:{net.secure}/moved", follow_redirects=True)
        assert answer.text == "HTTP/1.1"
        assert answer.extensions["network_stream"].get_extra_info("ssl_object").version() == "TLSv1.3"
        assert net.connections == 1


async def test_http_2_over_one_connection(net: Web) -> None:
    async with client(net, http2=True) as http:
        base = f"https://{NAME}:{net.secure}"
        answers = await asyncio.gather(*(http.get(f"{base}/{'big' if n % 4 == 0 else 'version'}") for n in range(20)))
        assert {answer.http_version for answer in answers} == {"HTTP/2"}
        assert [answer.content == BIG for answer in answers] == [n % 4 == 0 for n in range(20)]
        assert net.connections == 1


async def test_the_pool_is_as_large_as_it_may_be(net: Web) -> None:
    async with client(net, limits=httpx.Limits(max_connections=3)) as http:
        answers = await asyncio.gather(*(http.get(f"http://{NAME}:{net.plain}/big") for _ in range(12)))
        assert all(answer.content == BIG for answer in answers)
        assert net.connections == 3


async def test_a_connection_that_the_server_ended_is_not_used_again(net: Web) -> None:
    async with client(net) as http:
        for _ in range(3):
            assert (await http.get(f"http://{NAME}:{net.plain}/once")).text == "once"
        assert net.connections == 3


async def test_uploads(net: Web) -> None:
    async def pieces() -> object:
        for at in range(0, len(BIG), 100_000):
            yield BIG[at : at + 100_000]

    async with client(net) as http:
        for content in (BIG, pieces()):
            answer = await http.put(f"http://{ALIAS}:{net.telling}/", content=content)  # type: ignore[arg-type]
            assert answer.json() == {"method": "PUT", "size": len(BIG), "sha": hashlib.sha256(BIG).hexdigest()}


@pytest.mark.unbalanced(reason="it takes the forwarder away from under requests, and its server sleeps on")
async def test_errors_are_httpxs_own(net: Web) -> None:
    async with client(net) as http:
        with pytest.raises(httpx.ConnectError, match="refused"):
            await http.get(f"http://{ALIAS}:{free_port()}/")
        with pytest.raises(httpx.ConnectError, match="no address"):
            await http.get("http://nobody.test/")
        with pytest.raises(httpx.ConnectError, match=r"certificate|CERTIFICATE"):
            await http.get(f"https://{ALIAS}:{net.secure}/")  # trusted, but not by that name
        with pytest.raises(httpx.ReadTimeout):
            await http.get(f"http://{ALIAS}:{net.telling}/sleep", timeout=0.1)
        net.exit.stack.tcp.forward = lambda request: request.drop()
        with pytest.raises(httpx.ConnectTimeout):
            await http.get(f"http://{ALIAS}:{net.plain}/version", timeout=0.1)
    async with httpx.AsyncClient(transport=StackTransport(net.entrance)) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get(f"https://{NAME}:{net.secure}/", timeout=0.1)
    assert all(flow.connection.state.name != "SYN_SENT" for flow in net.entrance.tcp.flows.values())


async def test_what_a_stack_has_not(net: Web) -> None:
    backend = StackBackend(net.entrance)
    with pytest.raises(Exception, match="unix"):
        await backend.connect_unix_socket("/run/x")
    await backend.sleep(0)
