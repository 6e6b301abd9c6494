"""What connections share."""

from __future__ import annotations

from netbridge.stack.tcp.budget import FLOOR, Budget

MIB = 1 << 20


def test_windows_that_grow_leave_something_for_the_next() -> None:
    budget = Budget(48 * MIB)
    assert budget.widen(6 * MIB) == 6 * MIB
    grants = [budget.widen(6 * MIB) for _ in range(100)]
    assert grants[0] == 6 * MIB
    assert grants == sorted(grants, reverse=True)
    assert 0 < sum(grants) + 6 * MIB <= budget.limit
    budget.narrow(6 * MIB)
    assert budget.widen(6 * MIB) > grants[-1]


def test_no_window_grows_while_much_lies_unread() -> None:
    budget = Budget(MIB)
    budget.used = MIB // 2
    assert budget.widen(1000) == 0
    assert budget.widened == 0


def test_only_what_exceeds_the_floor_is_refused() -> None:
    budget = Budget(MIB)
    budget.used = 2 * MIB
    assert not budget.refuses(FLOOR, 0)
    assert budget.refuses(1, FLOOR)
    budget.used = MIB
    assert not budget.refuses(MIB // 2, FLOOR)
