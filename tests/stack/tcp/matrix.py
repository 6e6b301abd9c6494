"""The matrix of states and segments: how each state is reached, and every segment to be tried in it.

A cell is a connection brought into its state by a conversation, 100 bytes of ours in flight where the state has any,
and one segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from netbridge.stack.tcp.config import TcpConfig
from netbridge.stack.tcp.segment import Options

from .conversation import PEER_ISN, Talk
from .reference import Arriving, Block

IN_FLIGHT = b"x" * 100
TEXT = b"hello"
WINDOW = 65535

KINDS = [
    "".join(letter for bit, letter in enumerate("SAFR") if number >> bit & 1) or "none" for number in range(16)
]
"""All combinations of SYN, ACK, FIN and RST."""

Sequence = Callable[[Block, int], int]
"""The sequence number of a segment of so many (SEG.LEN) numbers."""

SEQUENCES: dict[str, Sequence] = {
    "exact": lambda block, _: block.rcv_nxt,
    "inside": lambda block, _: block.rcv_nxt + 50,
    "one old": lambda block, _: block.rcv_nxt - 1,
    "old": lambda block, _: block.rcv_nxt - 10,
    "long ago": lambda block, _: block.rcv_nxt - 1_000_000,
    "fills the window": lambda block, length: block.rcv_nxt + block.rcv_wnd - length,
    "over the edge": lambda block, _: block.rcv_nxt + block.rcv_wnd - 2,
    "beyond": lambda block, _: block.rcv_nxt + block.rcv_wnd,
    "far beyond": lambda block, _: block.rcv_nxt + 1_000_000,
}  # fmt: skip
ACKNOWLEDGED: dict[str, Callable[[Block], int]] = {
    "of long ago": lambda block: block.snd_una - block.max_snd_wnd - 1,
    "oldest": lambda block: max(block.snd_una - block.max_snd_wnd, 1),
    "old": lambda block: block.snd_una - 1,
    "una": lambda block: block.snd_una,
    "in flight": lambda block: (block.snd_una + block.snd_nxt) // 2,
    "all but the FIN": lambda block: block.snd_nxt - 1,
    "everything": lambda block: block.snd_nxt,
    "beyond": lambda block: block.snd_nxt + 1,
    "far beyond": lambda block: block.snd_nxt + 1_000_000,
}  # fmt: skip


def syn_sent() -> Talk:
    talk = Talk()
    talk.connection.open()
    talk.hears("S", 0)
    return talk


def syn_received() -> Talk:
    talk = Talk()
    talk.connection.accept(PEER_ISN, WINDOW, Options(1000))
    talk.hears("SA", 0, 1)
    return talk


def syn_received_by_both() -> Talk:
    talk = syn_sent()
    talk.says("S", 0)
    talk.hears("SA", 0, 1)
    return talk


def established() -> Talk:
    talk = Talk.established()
    talk.writes(IN_FLIGHT)
    talk.hears("A", 1, 1)
    return talk


def window_closed() -> Talk:
    """All of a window of 1,000 bytes lies unread."""
    talk = Talk.established(TcpConfig(receive_window=1000, max_receive_window=1000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"y" * 1000)
    talk.hears("A", 1, 1001, window=0)
    talk.writes(IN_FLIGHT)
    talk.hears("A", 1, 1001)
    return talk


def five_bytes_of_window() -> Talk:
    talk = Talk.established(TcpConfig(receive_window=1000, max_receive_window=1000))
    talk.user.room = 0
    talk.says("A", 1, 1, b"y" * 995)
    talk.hears("A", 1, 996, window=5)
    talk.writes(IN_FLIGHT)
    talk.hears("A", 1, 996)
    return talk


def fin_wait_1() -> Talk:
    talk = Talk.established()
    talk.writes(IN_FLIGHT)
    talk.hears("A", 1, 1)
    talk.closes()
    talk.hears("FA", 101, 1)
    return talk


def fin_wait_2() -> Talk:
    talk = fin_wait_1()
    talk.says("A", 1, 102)
    return talk


def close_wait() -> Talk:
    talk = Talk.established()
    talk.says("FA", 1, 1)
    talk.hears("A", 1, 2)
    talk.writes(IN_FLIGHT)
    talk.hears("A", 1, 2)
    return talk


def closing() -> Talk:
    talk = fin_wait_1()
    talk.says("FA", 1, 1)
    talk.hears("A", 102, 2)
    return talk


def last_ack() -> Talk:
    talk = close_wait()
    talk.closes()
    talk.hears("FA", 101, 2)
    return talk


def closing_fin_in_flight() -> Talk:
    talk = closing()
    talk.says("A", 2, 101)
    return talk


def last_ack_fin_in_flight() -> Talk:
    talk = last_ack()
    talk.says("A", 2, 101)
    return talk


def time_wait() -> Talk:
    talk = fin_wait_2()
    talk.says("FA", 1, 102)
    talk.hears("A", 102, 2)
    return talk


@dataclass(frozen=True)
class Cell:
    """A place in the matrix, in words."""

    row: str
    kind: str
    seq: str
    ack: str
    text: bool

    def __str__(self) -> str:
        ack = f", ACK {self.ack}" if self.ack else ""
        return f"{self.row}: {self.kind}{' with text' if self.text else ''}, sequence number {self.seq}{ack}"


@dataclass(frozen=True)
class Row:
    """How a state is reached, and its block."""

    block: Block
    reach: Callable[[], Talk]

    def __call__(self) -> Talk:
        talk = self.reach()
        assert talk.state == self.block.state
        talk.silent()
        return talk


def _block(state: str, una: int, nxt: int, rcv_nxt: int = 1, edge: int = WINDOW + 1, *, fin: bool = False) -> Block:
    return Block(
        state, snd_una=una, snd_nxt=nxt, max_snd_wnd=WINDOW, rcv_nxt=rcv_nxt, rcv_wnd=edge - rcv_nxt, fin_sent=fin
    )  # fmt: skip


ROWS = {
    "SYN-SENT": Row(Block("SYN-SENT", snd_nxt=1, rcv_wnd=WINDOW), syn_sent),
    "SYN-RECEIVED": Row(
        Block("SYN-RECEIVED", passive=True, snd_nxt=1, max_snd_wnd=WINDOW, rcv_nxt=1, rcv_wnd=WINDOW), syn_received
    ),
    "SYN-RECEIVED by both": Row(
        Block("SYN-RECEIVED", snd_nxt=1, max_snd_wnd=WINDOW, rcv_nxt=1, rcv_wnd=WINDOW), syn_received_by_both
    ),
    "ESTABLISHED": Row(_block("ESTABLISHED", 1, 101), established),
    "ESTABLISHED, window closed": Row(_block("ESTABLISHED", 1, 101, 1001, 1001), window_closed),
    "ESTABLISHED, 5 bytes of window": Row(_block("ESTABLISHED", 1, 101, 996, 1001), five_bytes_of_window),
    "FIN-WAIT-1": Row(_block("FIN-WAIT-1", 1, 102, fin=True), fin_wait_1),
    "FIN-WAIT-2": Row(_block("FIN-WAIT-2", 102, 102, fin=True), fin_wait_2),
    "CLOSE-WAIT": Row(_block("CLOSE-WAIT", 1, 101, 2), close_wait),
    "CLOSING": Row(_block("CLOSING", 1, 102, 2, fin=True), closing),
    "LAST-ACK": Row(_block("LAST-ACK", 1, 102, 2, fin=True), last_ack),
    "CLOSING, FIN in flight": Row(_block("CLOSING", 101, 102, 2, fin=True), closing_fin_in_flight),
    "LAST-ACK, FIN in flight": Row(_block("LAST-ACK", 101, 102, 2, fin=True), last_ack_fin_in_flight),
    "TIME-WAIT": Row(_block("TIME-WAIT", 102, 102, 2, fin=True), time_wait),
}


PORTS = {
    "CLOSED": Block("CLOSED", rcv_wnd=WINDOW),
    "LISTEN": Block("LISTEN", rcv_wnd=WINDOW),
    "LISTEN, forwarded": Block("LISTEN", rcv_wnd=WINDOW),
    "SYN-RECEIVED": ROWS["SYN-RECEIVED"].block,
}
"""What is no connection yet: a stack's port that nobody listens on, or a listener does, or a forwarder; and what a
listener keeps until the handshake is done."""


def cells(name: str, block: Block, kind: str) -> Iterator[tuple[Cell, Arriving]]:
    """Every segment of that kind, with and without data, once."""
    seen = set()
    for text in (b"", TEXT):
        for where, place in SEQUENCES.items():
            length = len(text) + ("S" in kind) + ("F" in kind)
            for what, number in ACKNOWLEDGED.items():
                ack = number(block) if "A" in kind else None
                segment = Arriving(place(block, length), ack, "S" in kind, "F" in kind, "R" in kind, text)
                if segment not in seen:
                    seen.add(segment)
                    yield Cell(name, kind, where, what if ack is not None else "", bool(text)), segment
