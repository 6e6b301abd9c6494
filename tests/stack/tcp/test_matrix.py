"""Every state against every kind of segment: the stack answers as the reference model of the RFCs does.

The model is `reference.py`, states and segments are made in `matrix.py`. Where the stack answers otherwise on purpose,
`differences.py` has the answer and the reason.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from netbridge.stack.tcp.request import TcpRequest
from netbridge.stack.tcp.segment import ACK, Segment, flag_names
from netbridge.stack.tcp.seq import MASK

from .conversation import OUR_ISN, PEER_ISN, Talk
from .differences import DIFFERENCES
from .matrix import KINDS, PORTS, ROWS, cells
from .peer import GATEWAY, SERVER, Peer, User
from .peer import PEER_ISN as FAR_ISN
from .reference import Answer, Arriving, Block, Sent, arrives


def stack_answers(talk: Talk, segment: Arriving) -> Answer:
    """What the connection does: at once, or when its delayed acknowledgement is due."""
    before = len(talk.user.data) + talk.connection.receiver.backlog_bytes
    calls = len(talk.user.calls)
    letters = "S" * segment.syn + "A" * (segment.ack is not None) + "F" * segment.fin + "R" * segment.rst
    talk.says(letters, segment.seq, segment.ack or 0, segment.data)
    talk.passes(0.05)
    answered = talk.left()
    state = talk.state
    talk.reads()
    signal = "closing" if "eof" in talk.user.calls[calls:] else ""
    if isinstance(talk.user.error, ConnectionRefusedError):
        signal = "refused"
    elif isinstance(talk.user.error, ConnectionResetError):
        signal = "reset"
    return Answer(state, sent(answered), talk.user.data[before:], signal)


def sent(answered: list[Segment]) -> Sent | None:
    """What left, its numbers counted from the ISNs; never more than one segment."""
    if not answered:
        return None
    segment = answered[-1]
    flags = flag_names(segment.flags) if len(answered) == 1 else f"{len(answered)} segments: {answered}"
    ack = _counted(segment.ack - PEER_ISN) if segment.flags & ACK else None
    return Sent(flags, _counted(segment.seq - OUR_ISN), ack)


def _counted(number: int) -> int:
    return ((number + (1 << 31)) & MASK) - (1 << 31)


def expected(block: Block, segment: Arriving) -> Answer:
    """The reference's answer, or the stack's own where that is listed."""
    answer = arrives(block, segment)
    for difference in DIFFERENCES:
        if difference.where(block, segment):
            return difference.answer(block, segment, answer)
    return answer


def test_every_difference_differs() -> None:
    """One that does not, or not any more, is to be taken out of the list."""
    used = set()
    for block in [row.block for row in ROWS.values()] + list(PORTS.values()):
        for kind in KINDS:
            for _, segment in cells("", block, kind):
                plain = arrives(block, segment)
                for number, difference in enumerate(DIFFERENCES):
                    if difference.where(block, segment):
                        if difference.answer(block, segment, plain) != plain:
                            used.add(number)
                        break
    assert used == set(range(len(DIFFERENCES)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ROWS)
def test_a_connection_answers_as_the_rfcs_say(name: str, kind: str) -> None:
    row = ROWS[name]
    wrong = []
    for cell, segment in cells(name, row.block, kind):
        want = expected(row.block, segment)
        if want.state == "LISTEN":  # the listener is no connection: this one is over, and its user hears why
            want = Answer("CLOSED", want.sent, want.data, "reset")
        got = stack_answers(row(), segment)
        if got != want:
            wrong.append(f"{cell}\n    {segment}\n    expected {want}\n    answered {got}")
    assert not wrong, f"{len(wrong)} cells:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PORTS)
async def test_a_port_answers_as_the_rfcs_say(name: str, kind: str) -> None:
    """CLOSED and LISTEN are no connection's states: the stack itself answers there, and its listener in the next."""
    wrong, block = [], PORTS[name]
    for cell, segment in cells(name, block, kind):
        if cell.seq not in ("exact", "one old", "far beyond") or cell.ack not in ("", "una", "everything", "beyond"):
            continue  # mostly a number is as good as another here
        want = expected(block, segment)
        got = port_answers(name, segment)
        if got != replace(want, signal=""):  # who listens hears of established connections only
            wrong.append(f"{cell}\n    {segment}\n    expected {want}\n    answered {got}")
    assert not wrong, f"{len(wrong)} cells:\n" + "\n".join(wrong[:20])


def port_answers(name: str, segment: Arriving) -> Answer:
    """What a stack does with a segment to a port that nobody listens on, or somebody does."""
    peer, user = Peer(), User()
    destination = GATEWAY[4]
    if name == "CLOSED":
        peer.tcp.forward = None
    elif name == "LISTEN, forwarded":
        peer.tcp.forward = lambda request: _accept(request, user)
        destination = SERVER[4]
    else:
        peer.tcp.listen(None, 80, lambda _: user)
    isn = 0
    if name == "SYN-RECEIVED":
        peer.says("S", FAR_ISN, destination=destination)
        isn = peer.hears("SA").seq
    letters = "S" * segment.syn + "A" * (segment.ack is not None) + "F" * segment.fin + "R" * segment.rst
    peer.says(letters, FAR_ISN + segment.seq, isn + (segment.ack or 0), segment.data, destination=destination)
    for flow in peer.tcp.flows.values():
        flow.handle_timeout(peer.stack.clock.now() + 0.05)  # of a delayed acknowledgement
    answers = [packet.payload for packet in peer.heard()]
    state = "LISTEN" if name != "CLOSED" else name
    for flow in peer.tcp.flows.values():
        state = flow.connection.state.value
    if any(listener.half_open for listener in peer.tcp.listeners.values()):
        state = "SYN-RECEIVED"
    if state != "LISTEN" and not isn and answers:
        isn = answers[0].seq if "S" in answers[0].flags else 0
    peer.close()
    assert len(answers) <= 1
    told = None
    for answer in answers:
        flags = flag_names(int(answer.flags))
        told = Sent(flags, _counted(answer.seq - isn), _counted(answer.ack - FAR_ISN) if "ACK" in flags else None)
    return Answer(state, told, user.data)


def _accept(request: TcpRequest, user: User) -> None:
    request.accept(user)
