"""Proportional rate reduction, with the RFC's own examples (RFC 6937; RFC 9937)."""

from __future__ import annotations

from netbridge.stack.tcp.prr import Prr

MSS = 1000


def test_one_loss_lets_half_of_what_arrives_leave() -> None:
    """RFC 6937, section 4, first example: 20 in flight, one lost, half of 20 in the end."""
    prr = Prr(20 * MSS, 10 * MSS, MSS)
    pipe, sent = 16 * MSS, 0
    for _ in range(19 - 3):
        pipe -= MSS
        allowed = prr.allow(MSS, pipe, safe=False)
        if allowed >= MSS:
            prr.out += allowed // MSS * MSS
            pipe += allowed // MSS * MSS
            sent += allowed // MSS
    assert 8 <= sent <= 10
    assert pipe <= 10 * MSS


def test_after_many_losses_as_much_leaves_as_arrives_and_one_more_while_it_works() -> None:
    """The slow-start reduction bound: the second example, 15 of 20 lost."""
    prr = Prr(20 * MSS, 10 * MSS, MSS)
    assert prr.allow(MSS, 4 * MSS, safe=False) == MSS
    prr.out += MSS
    assert prr.allow(MSS, 4 * MSS, safe=False) == MSS
    prr.out += MSS
    assert prr.allow(MSS, 4 * MSS, safe=True) == 2 * MSS


def test_it_never_lets_more_than_the_new_window_out() -> None:
    prr = Prr(20 * MSS, 10 * MSS, MSS)
    prr.out += MSS
    assert prr.allow(15 * MSS, 9 * MSS, safe=True) == MSS


def test_the_fast_retransmit_does_not_ask() -> None:
    assert Prr(20 * MSS, 10 * MSS, MSS).allow(0, 16 * MSS, safe=False) == MSS
