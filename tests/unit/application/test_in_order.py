import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from parakeet_service.application.in_order import in_order

from .doubles import no_loose_ends, turns


class Calls:
    """Calls that wait until they are let go, each by itself, for so many numbers; one of them may fail."""

    def __init__(self, count: int, *, error: Exception | None = None, bad: int | None = None) -> None:
        self.gates = [asyncio.Event() for _ in range(count)]
        self.fetched = 0
        self.begun = 0
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.given: list[int] = []
        self._error = error
        self._bad = bad

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()

    async def taken(self, *, at_once: int = 2) -> None:
        async with (
            aclosing(self._numbers()) as numbers,
            aclosing(in_order(numbers, self._call, at_once=at_once)) as results,
        ):
            async for result in results:
                self.given.append(result)

    async def _numbers(self) -> AsyncGenerator[int]:
        for number in range(len(self.gates)):
            self.fetched += 1
            yield number
        if self._error is not None:
            raise self._error

    async def _call(self, number: int) -> int:
        self.begun += 1
        if number == self._bad:
            raise LookupError
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        self.ended.append(number)
        return number


async def test_results_come_in_the_order_of_the_items_whatever_ends_first() -> None:
    some = Calls(3)
    taking = asyncio.create_task(some.taken(at_once=3))
    await turns()
    some.let_go(2, 1)
    await turns()
    assert (some.ended, some.given) == ([2, 1], [])
    some.let_go(0)
    await taking
    assert some.given == [0, 1, 2]


async def test_each_is_given_as_soon_as_it_can_be() -> None:
    some = Calls(3)
    taking = asyncio.create_task(some.taken())
    some.let_go(0)
    await turns()
    assert some.given == [0]
    taking.cancel()
    await asyncio.wait((taking,))


async def test_so_many_are_under_way_at_once_and_the_next_is_fetched() -> None:
    some = Calls(9)
    taking = asyncio.create_task(some.taken())
    await turns()
    assert (some.begun, some.fetched) == (2, 3)
    some.let_go(1)
    await turns()
    assert (some.begun, some.fetched) == (2, 3)
    some.let_go(0)
    await turns()
    assert (some.begun, some.fetched, some.given) == (4, 5, [0, 1])
    some.let_go(*range(9))
    await taking
    assert some.given == list(range(9))


async def test_nothing_gives_nothing() -> None:
    some = Calls(0)
    await some.taken()
    assert some.given == []


async def test_an_error_of_what_gives_the_items_comes_after_their_results() -> None:
    some = Calls(2, error=LookupError("no more"))
    async with no_loose_ends():
        taking = asyncio.create_task(some.taken(at_once=4))
        await turns()
        some.let_go(0, 1)
        with pytest.raises(LookupError):
            await taking
    assert some.given == [0, 1]


async def test_an_error_of_a_call_comes_in_its_place_and_ends_the_rest() -> None:
    some = Calls(4, bad=1)
    async with no_loose_ends():
        taking = asyncio.create_task(some.taken(at_once=3))
        await turns()
        some.let_go(0)
        with pytest.raises(LookupError):
            await taking
    assert (some.given, some.cancelled) == ([0], [2])


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 30])
async def test_leaving_ends_all_of_it(after: int) -> None:
    some = Calls(5)
    async with no_loose_ends():
        taking = asyncio.create_task(some.taken())
        await turns(after)
        taking.cancel()
        await asyncio.wait((taking,))
    assert taking.cancelled()
    assert some.ended == []


async def test_leaving_twice_ends_all_of_it_first() -> None:
    slow, ended = asyncio.Event(), list[str]()

    async def items() -> AsyncGenerator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            await slow.wait()
            ended.append("items")

    async def call(_: int) -> None:
        await asyncio.Event().wait()

    async def take() -> None:
        async with aclosing(items()) as some, aclosing(in_order(some, call, at_once=2)) as results:
            await anext(results)

    async with no_loose_ends():
        taking = asyncio.create_task(take())
        await turns()
        for _ in range(2):
            taking.cancel()
            await turns()
        assert not taking.done()
        slow.set()
        await asyncio.wait((taking,))
    assert taking.cancelled()
    assert ended == ["items"]
