"""What ties a holder to its session: one connection at a time, the process in front of it, and how long it may be gone.

States: tied → cut off → tied again, or over. Cut off means that the connection broke: the holder keeps what it has for
the grace that the session asked for, and a newly started agent, which is another holder that has only heard `resume`,
hands its connection over (:mod:`.meeting`). Without a grace, or before there is anything to keep, a broken connection
is the end.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import stat
import time
from typing import Any, Callable, Dict, List, Optional

from . import front, meeting
from .frames import FrameError
from .loop import READ, Loop, Timer
from .stream import Stream

LONGEST = 7 * 86400.0
"""Seconds; the settings allow a day, and a timer must not be told of infinity."""


def seconds(value: Any) -> float:
    """A time in a message; none is 0. ValueError, TypeError for what is no time."""
    found = float(value or 0)
    if not 0 <= found <= LONGEST:  # NaN is neither
        raise ValueError("no time: %r" % found)
    return found


class NotPassedOnError(Exception):
    """The connection could not be handed to another holder; `code` is part of the protocol."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Tether:
    """The holder's side of its connection."""

    def __init__(
        self, loop: Loop, connection: str, before: socket.socket, on_cut: Callable[[], None],
        on_resumed: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`connection`: the text of SSH_CONNECTION; `before`: where the process in front of this one waits;
        `on_cut` hears when the connection is gone and what is held outlives it, `on_resumed` the SSH_CONNECTION of each
        other connection. The end of all is the loop's.
        """
        self._loop = loop
        self._connection = connection
        self._on_cut = on_cut
        self._on_resumed = on_resumed
        self._front: Optional[socket.socket] = None
        self._session: Dict[str, Any] = {}
        self._silence = 0.0
        self._holding = False
        self._listening: Optional[Timer] = None
        self._grace: Optional[Timer] = None
        self.stream: Optional[Stream] = None
        self.status = 0
        """Exit status: 0 after EOF, a signal or `stop`; 1 when the session broke the rules."""
        self._stand_behind(before)

    def open_door(self, session: Dict[str, Any]) -> meeting.Door:
        """From now on other agents of this place are heard. `session`: its `name`, `secret` and `machine`, the `grace`
        in seconds, and whether it is `quiet`. OSError when the name is taken.
        """
        self._session = {**session, "grace": seconds(session.get("grace"))}
        return meeting.Door(self._loop, session["name"], self._asked)

    def hold(self, silence: float) -> None:
        """There is something to keep. After `silence` seconds without a word (0: never) the connection is given up."""
        self._holding = True
        self._silence = silence
        self._listen()

    def let_go(self) -> None:
        """There is nothing to keep any more."""
        self._holding = False

    def send(self, message: Dict[str, Any]) -> None:
        """Tell the session, if it is there."""
        if self.stream is not None:
            self.stream.send_control(message)

    def lost(self, error: Optional[Exception]) -> None:
        """The connection ended; what is held outlives it by the grace, unless the session broke the rules."""
        broke_the_rules = error is not None and not isinstance(error, OSError)
        if broke_the_rules:
            self.status = 1
            with contextlib.suppress(OSError):
                os.write(2, ("netbridge agent: %s\n" % error).encode())
        grace = self._session.get("grace", 0.0)
        if broke_the_rules or not self._holding or grace <= 0:
            self._loop.stop()
            return
        self.leave()
        self._grace = self._loop.call_later(grace, self._loop.stop)
        self._on_cut()

    # Who waits in front of this process.

    def _stand_behind(self, before: socket.socket) -> None:
        self.leave()
        self._front = before
        self._loop.watch(before.fileno(), READ, self._front_gone)

    def _front_gone(self, _events: int) -> None:
        """It was told to end or was killed: for whoever started it the connection is over."""
        if self._front is not None:
            self._loop.unwatch(self._front.fileno())
        if self.stream is not None and self.stream.connected:
            self.stream.disconnect()
            self.lost(None)

    def leave(self) -> None:
        """Let the front end, if there is one, and speak to its standard error no more."""
        before, self._front = self._front, None
        if before is not None:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDWR)
                with contextlib.suppress(OSError):
                    os.dup2(null, 1)
                    os.dup2(null, 2)
                os.close(null)
            front.tell(before, self.status)
            self._loop.unwatch(before.fileno())
            before.close()

    # Another connection.

    def pass_on(self, message: Dict[str, Any]) -> None:
        """This agent was started to resume a bridge: hand its connection to the holder and end. NotPassedOnError."""
        if self._session or self.stream is None or self._front is None:
            raise NotPassedOnError("bad_message", "there is a bridge here")
        request = {
            "ask": "resume", "secret": message["secret"], "taken": message["taken"], "connection": self._connection,
        }
        try:
            answer = meeting.ask(message["session"], request, [*self.stream.descriptors, self._front.fileno(), 2])
        except meeting.NoAnswerError as error:
            raise NotPassedOnError("no_answer", str(error)) from None
        except meeting.NobodyThereError as error:
            raise NotPassedOnError("no_bridge", str(error)) from None
        if "error" in answer:
            raise NotPassedOnError("not_resumed", str(answer["error"]))
        self.stream.disconnect()
        self._loop.stop()

    def _asked(self, request: Dict[str, Any], descriptors: List[int]) -> Dict[str, Any]:
        """Answer another agent of this place (:mod:`.meeting`)."""
        wish = request.get("ask")
        try:
            if wish == "who":
                attached = self.stream is not None and self.stream.connected
                return {"machine": self._session.get("machine"), "attached": attached}
            if wish == "end":
                self.send({"type": "error", "code": "taken_over", "detail": str(request.get("why", ""))})
                self._loop.stop()
                return {"ending": True}
            if wish == "resume" and len(descriptors) == 4:
                return self._resume(request, descriptors)
            return {"error": "not understood"}
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _resume(self, request: Dict[str, Any], descriptors: List[int]) -> Dict[str, Any]:
        """Go on with another connection: copies of these descriptors (in, out, the front's, standard error)."""
        if self.stream is None or not self._holding:
            return {"error": "there is no bridge"}
        if not hmac.compare_digest(str(request.get("secret")).encode(), str(self._session.get("secret")).encode()):
            return {"error": "the secret is wrong"}
        taken = request.get("taken")
        if not isinstance(taken, int):
            return {"error": "a count of bytes is no number"}
        if not stat.S_ISSOCK(os.fstat(descriptors[2]).st_mode):
            return {"error": "the front is no socket"}
        reading, writing, before = (os.dup(descriptor) for descriptor in descriptors[:3])
        grace, self._grace = self._grace, None
        try:
            self.stream.resume(reading, writing, taken, {"type": "resumed"})
        except FrameError as error:
            for descriptor in (reading, writing, before):
                os.close(descriptor)
            self._grace = grace
            return {"error": str(error)}
        if grace is not None:
            grace.cancel()
        self._stand_behind(socket.socket(fileno=before))
        if not self.stream.connected:  # it is gone already
            self.leave()
            return {"resumed": True}
        os.dup2(descriptors[3], 2)
        os.dup2(2, 1)
        self._on_resumed(str(request.get("connection") or ""))
        self._listen()
        return {"resumed": True}

    # Whether it is still there.

    def _listen(self) -> None:
        """The session speaks every few seconds. When it does not, its connection is no longer waited for.

        A laptop that lost its power or its network closes nothing, and sshd may take hours to notice. A `quiet` session
        speaks only when there is something to say; so it is asked when packets were sent to it and nothing came back,
        as is so with a datagram that nobody answers.
        """
        if self._listening is not None:
            self._listening.cancel()
        stream = self.stream
        if self._silence <= 0 or stream is None or not stream.connected:
            return
        since = stream.heard_at
        if self._session.get("quiet"):  # silence is no sign until something went unanswered
            if stream.said_at > since:
                since = stream.said_at
                stream.ask()
                if not stream.connected:  # and that was the end of it
                    return
            else:
                since = time.monotonic()
        left = since + self._silence - time.monotonic()
        if left <= 0:
            with contextlib.suppress(OSError):
                os.write(2, ("netbridge agent: nothing was heard for %d s\n" % self._silence).encode())
            stream.disconnect()
            self.lost(None)
            return
        self._listening = self._loop.call_later(min(left, self._silence / 3), self._listen)
