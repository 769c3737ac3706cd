"""Items computed one ahead, in their order, with their errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cdal.runtime.ahead import one_ahead


def test_items_come_in_order_from_a_thread_that_is_one_ahead():
    made: list[int] = []
    threads = set()
    second = threading.Event()

    def items() -> Iterator[int]:
        for i in range(5):
            threads.add(threading.get_ident())
            made.append(i)
            if i == 1:
                second.set()
            yield i

    taken = []
    for item in one_ahead(items()):
        taken.append(item)
        assert second.wait(10) or item  # the second is made while the first is used
        assert len(made) <= len(taken) + 2
    assert taken == [0, 1, 2, 3, 4] and threads != {threading.get_ident()}
    assert list(one_ahead(iter(()))) == []


def test_an_error_is_raised_in_its_turn():
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_the_thread_ends_with_the_one_who_asks():
    before = threading.active_count()
    found = one_ahead(iter(range(100)))
    assert next(found) == 0
    found.close()
    assert threading.active_count() == before
