"""The connecting end: one link after the other, with waits between them, for as long as it is wanted."""

from __future__ import annotations

import asyncio
from math import inf
from typing import NoReturn

from netbridge.stack.link.base import LinkError
from netbridge.stack.link.carried import CarriedLink

from ..errors import BridgeError, NotPermittedError, TargetUnreachableError
from ..reconnect import Reconnect, waits
from .carriers import connect
from .channel import Channel, ProofError, words
from .credentials import Credentials
from .place import Place
from .proof import prove_connecting
from .reception import Tell
from .sides import Side

SHORT = 5.0
"""Seconds; a session that was over sooner may well be so again, and the next try waits."""


class Connecting:
    """Joins a place again and again."""

    def __init__(self, place: Place, side: Side, credentials: Credentials, tell: Tell, *, mtu: int, command: str = "",
                 ) -> None:  # fmt: skip
        """`command` is what ssh runs over there."""
        self._place = place
        self._side = side
        self._credentials = credentials
        self._tell = tell
        self._mtu = mtu
        self._command = command
        self._joined: tuple[Channel, CarriedLink] | None = None

    async def run(self) -> NoReturn:
        """Until it is cancelled. Raises BridgeError when the first try fails: somebody is there to be told."""
        loop = asyncio.get_running_loop()
        await self._join()
        while True:
            assert self._joined is not None
            channel, link = self._joined
            self._tell(f"joined {self._place} (MTU {link.mtu}{', super-segments' if link.offload else ''})")
            began = loop.time()
            try:
                await self._side.run(link)
            except LinkError as error:
                self._tell(f"the link is lost: {words(error)}")
            finally:
                await channel.close()
            if loop.time() - began < SHORT:
                await asyncio.sleep(next(waits()))
            await Reconnect(self._join, self._failed).run(inf)

    def _failed(self, tries: int, wait: float, why: str) -> None:
        self._tell(f"no link yet ({tries} tries, the next in {wait:.0f} s): {why}")

    async def _join(self) -> None:
        """One try. Raises BridgeError."""
        place = self._place
        try:
            channel = await connect(place, self._credentials, command=self._command)
            try:
                await prove_connecting(channel, self._credentials.psk)
                self._joined = channel, await channel.link(role=self._side.role, mtu=self._mtu)
            except BaseException:
                await channel.close()
                raise
        except ProofError as error:
            raise NotPermittedError(
                f"{place} was not joined.", f"{_sentence(error)}.",
                "Give both ends the same key, or certificates that the other's authority signed.",
            ) from error
        except LinkError as error:
            raise TargetUnreachableError(
                f"{place} was not joined.", f"{_sentence(error)}.",
                "See that `netbridge link listen` runs there, and that one end is an exit, the other an entrance.",
            ) from error
        except ImportError as error:
            raise BridgeError(f"{place} was not joined.", f"{error}.", "Install that.") from error


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".")
