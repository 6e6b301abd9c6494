"""Closing, half-closing, resetting, and what outlives it (RFC 9293, sections 3.6 and 3.10.4)."""

from __future__ import annotations

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.connection import Connection
from netbridge.stack.tcp.states import TRANSITIONS, Event, State

from .conversation import MSS, RecordingUser, Talk


def test_close_by_us() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("A", 1, 2)
    assert talk.state == "FIN-WAIT-2"
    talk.says("FA", 1, 2)
    talk.hears("A", 2, 2)
    assert talk.state == "TIME-WAIT"
    talk.passes(31)
    assert talk.state == "CLOSED"
    assert talk.user.calls == ["connected", "eof", "closed"]
    assert talk.user.error is None
    assert talk.quiet


def test_close_by_the_peer() -> None:
    talk = Talk.established()
    talk.says("FA", 1, 1)
    talk.hears("A", 1, 2)
    assert talk.state == "CLOSE-WAIT"
    talk.closes()
    talk.hears("FA", 1, 2)
    talk.says("A", 2, 2)
    assert talk.state == "CLOSED"
    assert talk.quiet


def test_simultaneous_close() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("FA", 1, 1)
    talk.hears("A", 2, 2)
    assert talk.state == "CLOSING"
    talk.says("A", 2, 2)
    assert talk.state == "TIME-WAIT"
    talk.passes(31)
    assert talk.quiet


def test_half_close_lasts_for_hours() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.says("A", 1, 2)
    talk.passes(4 * 3600)
    assert talk.state == "FIN-WAIT-2"
    talk.says("PA", 1, 2, b"the reply")
    assert talk.user.data == b"the reply"


def test_the_fin_rides_on_the_last_data() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 1500)
    talk.hears("A", 1)
    talk.closes()
    talk.silent()
    talk.says("A", 1, 1001, window=1000)
    talk.hears("FA", 1001, 1, b"x" * 500)


def test_a_lost_fin_is_sent_again() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1, 1)
    talk.passes(1.1)
    talk.hears("FA", 1, 1)


def test_eof_is_told_after_the_data_was_taken() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    assert talk.user.calls == ["connected"]
    talk.reads()
    assert talk.user.data == b"data"
    assert talk.user.calls == ["connected", "eof"]


def test_close_with_a_backlog_at_a_closed_window_ends_in_time() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 3000)
    talk.hears("A", 1)
    talk.says("A", 1, 1001, window=0)
    talk.connection.abandon(talk.now)
    assert talk.state == "FIN-WAIT-1"
    for _ in range(80):
        talk.passes(1)
        while talk._out:
            segment = talk._out.pop(0)
            if talk.state != "CLOSED":
                assert not segment.payload
                talk.says("A", 1, 1001, window=0)
    assert talk.state == "CLOSED"


def test_an_orphan_that_gets_on_is_not_cut() -> None:
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 5000)
    talk.hears("A", 1)
    talk.connection.abandon(talk.now)
    for number in range(1, 5):
        talk.passes(50)
        talk._out.clear()
        talk.says("A", 1, 1 + number * 1000, window=1000)
        talk._out.clear()
    assert talk.state == "FIN-WAIT-1"


def test_fin_wait_2_of_an_abandoned_connection_ends() -> None:
    talk = Talk.established()
    talk.connection.abandon(talk.now)
    talk.hears("FA", 1)
    talk.says("A", 1, 2)
    assert talk.state == "FIN-WAIT-2"
    talk.passes(61)
    assert talk.state == "CLOSED"


def test_reset_is_ignored_in_time_wait() -> None:
    talk = Talk.established()
    talk.closes()
    talk.hears("FA", 1)
    talk.says("FA", 1, 2)
    talk.hears("A", 2, 2)
    talk.says("R", 2)
    assert talk.state == "TIME-WAIT"  # RFC 1337


def test_abort_sends_one_reset_and_frees_everything() -> None:
    talk = Talk.established()
    talk.user.room = 0
    talk.says("A", 1, 1, b"unread")
    assert talk.budget.used == 6
    talk.connection.abort()
    talk.hears("RA", 1, 7)
    talk.silent()
    assert talk.budget.used == 0
    assert talk.quiet


def test_the_table_leaves_closed_only_by_opening() -> None:
    leaving = {event for (state, event) in TRANSITIONS if state is State.CLOSED}
    assert leaving == {Event.OPEN, Event.ACCEPT, Event.ABORT}
    assert all(state in {key[0] for key in TRANSITIONS} for state in TRANSITIONS.values())


def test_what_the_user_has_not_read_outlives_an_orderly_end() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.closes()
    talk.hears("FA", 1, 6)
    talk.says("A", 6, 2)
    assert talk.state == "CLOSED"
    assert talk.user.calls == ["connected"]
    talk.reads()
    assert talk.user.data == b"data"
    assert talk.user.calls == ["connected", "eof", "closed"]
    assert talk.budget.used == 0


def test_a_fin_never_rides_on_a_retransmission_in_the_middle() -> None:
    talk = Talk.established()
    talk.writes(b"A" * MSS + b"B" * MSS)
    talk.hears("A", 1)
    talk.hears("A", 1 + MSS)
    for _ in range(3):
        talk.connection.receive(0xFFFFFFF1, 0xFFFFFF01, 0x10, 65535, memoryview(b""), None, talk.now)
    talk.connection.shutdown()
    talk.hears("A", 1, 1, b"A" * MSS)
    talk.hears("FA", 1 + 2 * MSS, 1, b"")


def test_an_ack_of_everything_after_a_timeout_covers_the_fin_too() -> None:
    talk = Talk.established()
    talk.writes(b"x" * 2 * MSS)
    talk.closes()
    talk.hears("A", 1)
    talk.hears("A", 1 + MSS)
    talk.hears("FA", 1 + 2 * MSS)
    talk.passes(0.8)
    talk.hears("A", 1, 1, b"x" * MSS)
    talk.says("A", 1, 2 + 2 * MSS)
    assert talk.state == "FIN-WAIT-2"
    talk.silent()


def test_a_fin_waits_for_the_window_and_leaves_when_it_opens() -> None:
    talk = Talk.established(TcpConfig(retries=3), window=1000)
    talk.writes(b"x" * 1000)
    talk.closes()
    talk.hears("A", 1, 1, b"x" * 1000)
    talk.silent()
    talk.says("A", 1, 1001, window=0)
    talk.silent()
    for _ in range(100):  # the peer answers every probe: never given up
        talk.passes(10)
        while talk._out:
            talk.hears("A", 1000, 1, b"")
            talk.says("A", 1, 1001, window=0)
    assert talk.state == "FIN-WAIT-1"
    assert not talk.connection.wants_to_send
    talk.says("A", 1, 1001, window=1000)
    talk.hears("FA", 1001, 1, b"")
    talk.says("A", 1, 1002)
    assert talk.state == "FIN-WAIT-2"


def test_a_bare_fin_is_taken_at_a_closed_window() -> None:
    """BSD sends it there, and Linux takes it."""
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 2000)
    talk.hears("A", 1, 2001, window=0)
    talk.says("FA", 2001, 1)
    talk.hears("A", 1, 2002, window=0)
    assert talk.state == "CLOSE-WAIT"
    assert "eof" not in talk.user.calls
    talk.reads()
    assert talk.user.calls[-1] == "eof"


def test_a_reset_with_data_is_taken_at_a_closed_window() -> None:
    talk = Talk.established(TcpConfig(receive_window=2000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"x" * 2000)
    talk.hears("A", 1, 2001, window=0)
    talk.says("R", 2001, 0, b"because")
    assert talk.state == "CLOSED"


def test_nothing_wants_to_be_sent_once_it_is_over() -> None:
    """Whoever pumps would otherwise pump for ever."""
    talk = Talk.established(window=1000)
    talk.writes(b"x" * 3000)
    talk.closes()
    talk.hears("A", 1)
    talk.says("R", 1)
    assert talk.state == "CLOSED"
    assert not talk.connection.wants_to_send


class Aborting(RecordingUser):
    """Resets the connection when it gets data it does not like."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def data_received(self, data: memoryview) -> int:
        self.connection.abort()
        return len(data) // 2


def test_the_user_may_abort_from_inside_data_received() -> None:
    for late in (False, True):
        talk = Talk.established()
        if late:
            talk.user.room = 0
            talk.says("A", 1, 1, b"x" * 100)
            talk.says("A", 101, 1, b"x" * 100)
            assert talk.budget.used == 200
        talk.connection._user = user = Aborting(talk.connection)
        talk.connection.receiver.reader = user.data_received
        if late:
            talk.connection.drain(talk.now)
        else:
            talk.says("A", 1001, 1, b"early")
            talk.hears("A", 1, 1)
            talk.says("A", 1, 1, b"x" * 1000)
        talk.hears("RA", 1)
        talk.silent()
        assert talk.budget.used == 0
        assert talk.connection.receiver.backlog_bytes == 0
        assert user.calls == []
        assert talk.quiet


def test_abort_frees_what_outlived_an_orderly_end() -> None:
    talk = Talk.established()
    talk.user.room = 2
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.closes()
    talk.hears("FA", 1, 6)
    talk.says("A", 6, 2)
    assert talk.state == "CLOSED"
    assert talk.budget.used == 2
    talk.connection.abort()
    assert talk.budget.used == 0
    talk.reads()
    assert talk.user.calls == ["connected"]
    talk.silent()


def test_after_a_reset_no_end_of_file_is_told() -> None:
    talk = Talk.established()
    talk.user.room = 0
    talk.says("FA", 1, 1, b"data")
    talk.hears("A", 1, 6)
    talk.says("R", 6)
    assert talk.user.calls == ["connected", "closed"]
    talk.reads()
    assert talk.user.calls == ["connected", "closed"]
