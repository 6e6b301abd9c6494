"""What connections share."""

from __future__ import annotations

from netbridge.stack.tcp.budget import FLOOR, SHARE, Budget

MIB = 1 << 20


def test_windows_that_grow_share_and_leave_something_for_the_next() -> None:
    """Each asks for all it can get, again and again; the first had as much as it wanted while it was alone."""
    budget = Budget(48 * MIB)
    extra = [0] * 100
    for turn in range(60):
        for number in range(1 if turn < 2 else 100):
            extra[number] += budget.regrow(extra[number], 6 * MIB - extra[number])
        assert sum(extra) == budget.widened <= budget.limit
        assert turn or extra[0] == 6 * MIB
    fair = budget.limit / (100 + SHARE)
    assert fair / 2 < min(extra) <= max(extra) < fair * 2
    assert budget.regrow(0, MIB) > fair / 2


def test_what_is_given_back_is_there_for_others() -> None:
    budget = Budget(48 * MIB)
    for _ in range(40):
        budget.regrow(0, 6 * MIB)
    assert budget.regrow(0, MIB) < MIB // 1000
    budget.narrow(24 * MIB)
    assert budget.regrow(0, MIB) == MIB


def test_no_window_grows_while_much_lies_unread() -> None:
    budget = Budget(MIB)
    budget.used = MIB // 2
    assert budget.regrow(0, 1000) == 0
    assert budget.widened == 0


def test_only_what_exceeds_the_floor_is_refused() -> None:
    budget = Budget(MIB)
    budget.used = 2 * MIB
    assert not budget.refuses(FLOOR, 0)
    assert budget.refuses(1, FLOOR)
    budget.used = MIB
    assert not budget.refuses(MIB // 2, FLOOR)
