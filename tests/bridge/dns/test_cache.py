"""The cache: answers while they live, bounded in number and bytes."""

from __future__ import annotations

from netbridge.bridge.dns.answer import Answer
from netbridge.bridge.dns.cache import Cache


def answer(lifetime: int, size: int = 10) -> Answer:
    made = Answer(0, (1, 0, 0), b"x" * size)
    made.lifetime = lifetime
    return made


def test_an_answer_is_there_until_its_time_is_over() -> None:
    cache = Cache()
    kept = answer(10)
    cache.put(b"k", kept, 100.0)
    assert cache.get(b"k", 100.0) == (kept, 0)
    assert cache.get(b"k", 109.9) == (kept, 9)
    assert cache.get(b"k", 110.0) is None
    assert len(cache) == 0
    assert cache.bytes == 0


def test_what_may_not_be_kept_is_not() -> None:
    cache = Cache()
    cache.put(b"k", answer(0), 100.0)
    assert cache.get(b"k", 100.0) is None


def test_the_least_recently_used_leaves_when_there_are_too_many() -> None:
    cache = Cache(max_entries=2)
    for key in (b"a", b"b"):
        cache.put(key, answer(60), 0.0)
    assert cache.get(b"a", 1.0)
    cache.put(b"c", answer(60), 2.0)
    assert cache.get(b"a", 3.0)
    assert cache.get(b"b", 3.0) is None
    assert cache.get(b"c", 3.0)


def test_bytes_are_bounded_and_accounted() -> None:
    cache = Cache(max_bytes=100)
    for number in range(50):
        cache.put(b"%d" % (number % 7), answer(60, size=30), 0.0)
        assert cache.bytes == 30 * len(cache) <= 100
    cache.put(b"huge", answer(60, size=101), 0.0)
    assert cache.bytes <= 100
    cache.flush()
    assert (len(cache), cache.bytes) == (0, 0)
