"""look_ahead: the items of an iterator in order, with its errors; few are computed ahead."""

from __future__ import annotations

import threading
import time

import pytest

from spherodetect.pipeline.look_ahead import LookAhead, mapped_ahead, stop_if_abandoned

WAIT_S = 20


def _until(is_so) -> None:
    """Wait until something is so, in another thread."""
    end = time.monotonic() + WAIT_S
    while not is_so() and time.monotonic() < end:
        time.sleep(0.001)
    assert is_so()


class Source:
    """Counts from 0 on, and knows what was computed and in which thread."""

    def __init__(self, n: int, fails_at: int | None = None) -> None:
        self.computed: list[int] = []
        self.threads: set[int] = set()
        self.closed = False
        self._n, self._fails_at = n, fails_at

    def items(self):
        try:
            for number in range(self._n):
                if number == self._fails_at:
                    raise ValueError(f"item {number}")
                self.computed.append(number)
                self.threads.add(threading.get_ident())
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("n", [1, 2, 5])
def test_items_come_in_order_from_one_other_thread(n):
    source = Source(20)
    with LookAhead(source.items(), n=n) as items:
        assert list(items) == list(range(20))
        assert list(items) == []
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_an_error_comes_in_the_place_of_its_item():
    source = Source(5, fails_at=3)
    with LookAhead(source.items(), n=5) as items:
        got = [next(items) for _ in range(3)]
        with pytest.raises(ValueError, match="item 3"):
            next(items)
        with pytest.raises(StopIteration):
            next(items)
    assert got == [0, 1, 2]


@pytest.mark.parametrize("n", [1, 3])
def test_only_so_many_items_wait(n):
    source = Source(20)
    with LookAhead(source.items(), n=n) as items:
        next(items)
        _until(lambda: len(source.computed) == 1 + n)
        time.sleep(0.05)
        assert source.computed == list(range(1 + n))


def test_nothing_is_computed_beside_an_item_that_is_alone():
    source = Source(9)
    with LookAhead(source.items(), n=2, alone=lambda item: item == 2) as items:
        assert next(items) == 0
        _until(lambda: len(source.computed) == 3)
        assert [next(items), next(items)] == [1, 2]
        time.sleep(0.05)
        assert source.computed == [0, 1, 2], "item 2 is in use"
        assert next(items) == 3
        _until(lambda: len(source.computed) == 6)


def test_what_is_left_out_is_not_computed_and_the_source_is_closed():
    source = Source(1000)
    with pytest.raises(KeyError), LookAhead(source.items(), n=2) as items:
        next(items)
        raise KeyError
    assert source.closed
    assert len(source.computed) <= 4
    assert not any(one.name == "look ahead" for one in threading.enumerate())


def test_long_work_ends_when_nobody_waits_for_it():
    begun = threading.Event()

    def work():
        yield 1
        begun.set()
        while True:
            stop_if_abandoned()
            time.sleep(0.001)

    with LookAhead(work()) as items:
        next(items)
        assert begun.wait(WAIT_S)
    assert not any(one.name == "look ahead" for one in threading.enumerate())
    stop_if_abandoned()  # nothing happens in any other thread


class Doubled:
    """Doubles numbers, and knows which it got and in which thread."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.got: list[int] = []
        self.threads: set[int] = set()
        self._fails_at = fails_at

    def __call__(self, number: int) -> int:
        if number == self._fails_at:
            raise ValueError(f"item {number}")
        self.got.append(number)
        self.threads.add(threading.get_ident())
        return 2 * number


def _never(number: int) -> bool:
    return False


def test_results_come_in_order_from_one_other_thread():
    doubled = Doubled()
    assert list(mapped_ahead(doubled, range(20), alone=_never)) == list(range(0, 40, 2))
    assert len(doubled.threads) == 1
    assert threading.get_ident() not in doubled.threads


def test_one_result_is_made_ahead():
    doubled, source = Doubled(), Source(9)
    results = mapped_ahead(doubled, source.items(), alone=_never)
    assert next(results) == 0
    _until(lambda: doubled.got == [0, 1])
    assert source.computed == [0, 1]
    assert source.threads == {threading.get_ident()}, "the caller advances the items"


def test_no_item_is_taken_beside_one_that_is_alone():
    doubled, source = Doubled(), Source(9)
    results = mapped_ahead(doubled, source.items(), alone=lambda number: number == 2)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    time.sleep(0.05)
    assert source.computed == doubled.got == [0, 1, 2]
    assert next(results) == 6


def test_an_error_of_the_function_comes_in_the_place_of_its_result():
    results = mapped_ahead(Doubled(fails_at=2), range(9), alone=_never)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_the_thread_ends_when_nobody_waits_for_its_results():
    results = mapped_ahead(Doubled(), range(9), alone=_never)
    next(results)
    results.close()
    assert not any(one.name.startswith("map ahead") for one in threading.enumerate())
