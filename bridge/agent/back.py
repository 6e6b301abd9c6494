"""The way back: the session asks to be connected to a place here, or a program here asks for the user's ssh-agent.

Either way a TCP connection is opened from here, through the TUN like any program's, to the session's stack, where a
service waits for it. So nothing here listens on the network, nothing need be forwarded or allowed by a firewall, and
it works wherever the bridge itself does. The connection's first line is a JSON object: `secret` from `setup`, since any
program here could connect there; `for`, the number of the `dial` message it answers, or "agent"; and `error` and `code`
when the place could not be reached. Bytes follow.

`dial` messages may be repeated by a session that has heard nothing; a number that was taken up is not taken up again.
`hang_up` says that nobody waits for a number any more: a connect to a place that is silent would go on for two minutes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import socket
from typing import Any, Dict, List, Optional, Set, Union

from .authsocket import AuthSocket
from .dialling import Address, Dial, Names, look_up
from .loop import READ, Loop
from .splice import Splice

REMEMBERED = 4096
"""Numbers of `dial` messages that are remembered as taken up."""
EAI_NAMES = {value: name for name, value in vars(socket).items() if name.startswith("EAI_")}


def code_of(error: OSError) -> str:
    """The error's name, e.g. ECONNREFUSED or EAI_NONAME: numbers differ between systems."""
    if isinstance(error, socket.gaierror):
        return EAI_NAMES.get(error.errno or 0, "EAI_FAIL")
    return errno.errorcode.get(error.errno or 0, "EIO")


class Back:
    """What was asked for in the field `back` of `setup`: gateways, port, secret, most, agent (whether to serve it).

    `most` connections are carried at a time, those on their way included; each takes two descriptors.
    """

    def __init__(self, loop: Loop, wanted: Dict[str, Any]) -> None:
        self._loop = loop
        self._secret = str(wanted["secret"])
        self._most = int(wanted["most"])
        self._home: List[Address] = []
        for gateway in wanted["gateways"]:
            self._home += look_up(str(gateway), int(wanted["port"]), socket.AI_NUMERICHOST)
        self._names = Names(loop)
        self._taken: Dict[int, None] = {}
        self._calls: Dict[int, Optional[Dial]] = {}
        """Those on their way to a place here, by number; None while the name is resolved."""
        self._home_calls: Set[Dial] = set()
        self._going: Set[socket.socket] = set()
        """Connected over here, and on the way home."""
        self._splices: Set[Splice] = set()
        self._agent: Optional[AuthSocket] = None
        self.told: Dict[str, Any] = {}
        """Fields of `ready`."""
        if wanted.get("agent"):
            self._serve_agent()

    def _serve_agent(self) -> None:
        try:
            self._agent = AuthSocket()
        except OSError as error:
            self.told["ssh_agent_reason"] = error.strerror or str(error)
            return
        self.told["ssh_agent"] = self._agent.path
        self._loop.watch(self._agent.listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """End everything."""
        if self._agent is not None:
            self._loop.unwatch(self._agent.listener.fileno())
            self._agent.close()
        self._names.close()
        for dial in [*self._calls.values(), *self._home_calls]:
            if dial is not None:
                dial.close()
        for splice in list(self._splices):
            splice.abort()
        for place in self._going:
            place.close()
        self._calls.clear()
        self._home_calls.clear()
        self._splices.clear()
        self._going.clear()

    @property
    def _open(self) -> int:
        return len(self._calls) + len(self._going) + len(self._splices)

    # What the session asks for.

    def control(self, message: Dict[str, Any]) -> None:
        """Take a `dial` or a `hang_up`. Raises KeyError, TypeError, ValueError for nonsense."""
        if message["type"] == "dial":
            self._dial(message)
            return
        dial = self._calls.pop(int(message["number"]), None)
        if dial is not None:
            dial.close()

    def _dial(self, message: Dict[str, Any]) -> None:
        """Connect to a place here and tell the session."""
        number, host, port = int(message["number"]), str(message["host"]), int(message["port"])
        if number in self._taken:
            return
        self._taken[number] = None
        while len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]
        if self._open >= self._most:
            self._go_home(number, None, OSError(errno.EMFILE, "Too many connections are open over there"))
            return
        self._calls[number] = None
        self._names.resolve(host, port, functools.partial(self._resolved, number))

    def _resolved(self, number: int, addresses: List[Address], error: Optional[OSError]) -> None:
        if number not in self._calls:  # hung up on
            return
        if error is not None:
            self._reached(number, None, error)
            return
        dial = self._calls[number] = Dial(self._loop, addresses, functools.partial(self._reached, number))
        dial.start()

    def _reached(self, number: int, place: Optional[socket.socket], error: Optional[OSError]) -> None:
        self._calls.pop(number, None)
        self._go_home(number, place, error)

    # What programs here ask for.

    def _accept(self, _events: int) -> None:
        assert self._agent is not None
        with contextlib.suppress(OSError):
            client, _ = self._agent.listener.accept()
            client.setblocking(False)
            if self._open >= self._most or not self._agent.admits(client):
                client.close()
            else:
                self._go_home("agent", client, None)

    # To the session.

    def _go_home(self, what: Union[int, str], place: Optional[socket.socket], error: Optional[OSError]) -> None:
        """Connect to the service on the stack and tell it; then carry bytes between it and `place`."""
        first: Dict[str, Any] = {"secret": self._secret, "for": what}
        if error is not None:
            first.update(error=error.strerror or os.strerror(error.errno or 0), code=code_of(error))
        line = json.dumps(first).encode() + b"\n"
        if place is not None:
            self._going.add(place)

        def home(connection: Optional[socket.socket], failure: Optional[OSError]) -> None:
            self._home_calls.discard(dial)
            if place is not None:
                self._going.discard(place)
            if connection is not None:
                try:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if connection.send(line) != len(line):  # a buffer that is empty takes a few hundred bytes
                        raise OSError
                except OSError:
                    connection.close()
                    connection = None
            if connection is None:
                if isinstance(what, int):
                    self._taken.pop(what, None)  # the session will ask again
                if place is not None:
                    place.close()
            elif place is None:
                connection.close()
            else:
                with contextlib.suppress(OSError):  # not TCP
                    place.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):
                    self._splices.add(Splice(self._loop, place, connection, self._splices.discard))

        dial = Dial(self._loop, self._home, home)
        self._home_calls.add(dial)
        dial.start()
