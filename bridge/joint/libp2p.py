"""libp2p: a host in a thread of its own; Noise proves the peers' identities, and the key is bound to both of them.

The listening host's identity is derived from the key, so its address stays the same when it starts anew, and who has
the key can work it out: `/p2p/ID` may be left out where one connects.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.calls import call_link
from netbridge.stack.link.carried import CarriedLink
from netbridge.stack.link.extras import need
from netbridge.stack.link.greeting import Role
from netbridge.stack.link.libp2p import Libp2pNode, Libp2pStream

from ..errors import BridgeError
from .carriers import Visit
from .channel import Channel, Held
from .credentials import Credentials
from .place import Place

IDENTITY = b"netbridge link: libp2p identity\0"


class Libp2pChannel(Held):
    """A stream."""

    def __init__(self, stream: Libp2pStream, who: str, binding: bytes, rest: contextlib.AsyncExitStack) -> None:
        super().__init__(who, binding)
        self._stream = stream
        self._rest = rest

    async def some(self) -> bytes:
        try:
            return await self._stream.read()
        except LinkError:
            raise
        except Exception as error:  # libp2p's own
            raise LinkError(f"the stream broke: {error}") from error

    async def give(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except LinkError:
            raise
        except Exception as error:
            raise LinkError(f"the stream broke: {error}") from error

    async def link(self, *, role: Role, mtu: int) -> CarriedLink:
        return await call_link(self.rest, self.give, self.close, role=role, mtu=mtu)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self._stream.close()
        await self._rest.aclose()


@contextlib.asynccontextmanager
async def listen(place: Place, credentials: Credentials, visit: Visit) -> AsyncIterator[list[str]]:
    """See `carriers.listening`."""
    assert credentials.psk is not None
    pair = key_pair(credentials.psk)
    own = peer_id(pair)
    try:
        node = await Libp2pNode(listen=[place.path], key_pair=pair).__aenter__()
    except LinkError as error:
        raise BridgeError(f"{place} cannot be listened on.", f"{error}.", "Name another multiaddr.") from error

    async def opened(stream: Libp2pStream) -> None:
        async def opening() -> Libp2pChannel:
            rest = contextlib.AsyncExitStack()
            return Libp2pChannel(stream, stream.peer_id, binding(own, stream.peer_id), rest)

        await visit(stream.peer_id, stream.peer_id, opening)

    try:
        node.serve(opened)
        yield [f"libp2p://{address}" for address in node.addresses]
    finally:
        await node.__aexit__(None, None, None)


async def connect(place: Place, credentials: Credentials) -> Channel:
    """See `carriers.connect`."""
    assert credentials.psk is not None
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(Libp2pNode())
        address = place.path
        if "/p2p/" not in address:
            address = f"{address.rstrip('/')}/p2p/{peer_id(key_pair(credentials.psk))}"
        stream = await node.dial(address)
        own = str(node.host.get_id())
        return Libp2pChannel(stream, str(place), binding(stream.peer_id, own), stack.pop_all())
    raise AssertionError


def key_pair(psk: bytes) -> Any:
    """The listening host's Ed25519 keys."""
    seed = hmac.digest(psk, IDENTITY, hashlib.sha256)
    return need("libp2p.crypto.ed25519", "libp2p").create_new_key_pair(seed)


def peer_id(pair: Any) -> str:
    """As libp2p writes it."""
    return str(need("libp2p.peer.id", "libp2p").ID.from_pubkey(pair.public_key))


def binding(listens: str, connects: str) -> bytes:
    """Of the two identities, as Noise has proved them."""
    return hashlib.sha256(f"{listens}\0{connects}".encode()).digest()
