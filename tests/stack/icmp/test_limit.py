from __future__ import annotations

from netbridge.stack.icmp.limit import TokenBucket


def taken(bucket: TokenBucket, now: float, tries: int = 10_000) -> int:
    return sum(bucket.take(now) for _ in range(tries))


def test_one_token_an_error_on_average() -> None:
    counts = [taken(TokenBucket(rate=10, burst=50), 0.0) for _ in range(300)]
    assert 45 < sum(counts) / len(counts) < 56
    assert len(set(counts)) > 10  # what an outsider would count says little


def test_a_flood_gets_the_rate() -> None:
    bucket = TokenBucket(rate=100, burst=10)
    sent = sum(bucket.take(step / 1000) for step in range(100_000))
    assert 9_000 < sent < 11_500


def test_rest_refills_up_to_the_burst_only() -> None:
    bucket = TokenBucket(rate=100, burst=10, seed=1)
    taken(bucket, 0.0)
    assert not bucket.take(0.0)
    assert taken(bucket, 1e6) < 40


def test_a_clock_that_stands_or_steps_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1000, burst=5, seed=1)
    taken(bucket, 100.0)
    assert taken(bucket, 99.0) == 0
    assert taken(bucket, 100.0) == 0
