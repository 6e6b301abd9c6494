"""A target behind a tunnel: what `connect` makes to reach through it does all the rest."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from ..errors import BridgeError
from .base import Channel, Transport


class BehindTunnel(Transport):
    """`connect` sets `_inner`, the transport that speaks through the tunnel."""

    _inner: Transport | None = None

    @abc.abstractmethod
    def _not_connected(self) -> BridgeError:
        """What is told to somebody who did not connect before."""

    async def open(self, command: str) -> Channel:
        return await self._through().open(command)

    async def run(self, argv: Sequence[str]) -> int:
        return await self._through().run(argv)

    async def close(self) -> None:
        if self._inner is not None:
            await self._inner.close()

    def _through(self) -> Transport:
        if self._inner is None:
            raise self._not_connected()
        return self._inner
