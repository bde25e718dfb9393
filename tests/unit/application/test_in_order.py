import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from parakeet_service.application.in_order import in_order

from .doubles import no_loose_ends, turns


class Calls:
    """Calls that wait until they are let go, each by itself; `made` and `ended` count them."""

    def __init__(self, count: int, *, error: Exception | None = None) -> None:
        self.gates = [asyncio.Event() for _ in range(count)]
        self.made = 0
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self._error = error

    async def calls(self) -> AsyncGenerator[Coroutine[Any, Any, int]]:
        for number in range(len(self.gates)):
            self.made += 1
            yield self._one(number)
        if self._error is not None:
            raise self._error

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self.gates[number].set()

    async def _one(self, number: int) -> int:
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        self.ended.append(number)
        return number


async def taken(some: AsyncGenerator[Coroutine[Any, Any, int]], into: list[int], *, at_once: int = 2) -> None:
    async with aclosing(some) as calls, aclosing(in_order(calls, at_once=at_once)) as results:
        async for result in results:
            into.append(result)  # noqa: PERF401 - the test looks at it meanwhile


async def test_results_come_in_the_order_of_the_calls_whatever_ends_first() -> None:
    some, given = Calls(3), list[int]()
    taking = asyncio.create_task(taken(some.calls(), given, at_once=3))
    await turns()
    some.let_go(2, 1)
    await turns()
    assert (some.ended, given) == ([2, 1], [])
    some.let_go(0)
    await taking
    assert given == [0, 1, 2]


async def test_each_is_given_as_soon_as_it_can_be() -> None:
    some, given = Calls(3), list[int]()
    taking = asyncio.create_task(taken(some.calls(), given))
    some.let_go(0)
    await turns()
    assert given == [0]
    taking.cancel()
    await asyncio.wait((taking,))


async def test_no_more_are_made_than_are_under_way_at_once() -> None:
    some, given = Calls(9), list[int]()
    taking = asyncio.create_task(taken(some.calls(), given))
    await turns()
    assert some.made == 2
    some.let_go(1)
    await turns()
    assert some.made == 2
    some.let_go(0)
    await turns()
    assert (some.made, given) == (4, [0, 1])
    some.let_go(*range(9))
    await taking
    assert given == list(range(9))


async def test_nothing_gives_nothing() -> None:
    given = list[int]()
    await taken(Calls(0).calls(), given)
    assert given == []


async def test_an_error_comes_in_its_place_and_ends_the_rest() -> None:
    some, given = Calls(2, error=LookupError("no more")), list[int]()
    async with no_loose_ends():
        taking = asyncio.create_task(taken(some.calls(), given, at_once=4))
        await turns()
        some.let_go(0, 1)
        with pytest.raises(LookupError):
            await taking
    assert given == [0, 1]


async def test_an_error_of_a_call_ends_the_rest() -> None:
    some, given = Calls(3), list[int]()

    async def calls() -> AsyncGenerator[Coroutine[Any, Any, int]]:
        async with aclosing(some.calls()) as good:
            yield await anext(good)
            yield bad()
            yield await anext(good)

    async def bad() -> int:
        raise LookupError

    async with no_loose_ends():
        taking = asyncio.create_task(taken(calls(), given, at_once=3))
        await turns()
        some.let_go(0)
        with pytest.raises(LookupError):
            await taking
    assert (given, some.cancelled) == ([0], [1])


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 30])
async def test_leaving_ends_all_of_it(after: int) -> None:
    some, given = Calls(5), list[int]()
    async with no_loose_ends():
        taking = asyncio.create_task(taken(some.calls(), given))
        await turns(after)
        taking.cancel()
        await asyncio.wait((taking,))
    assert taking.cancelled()
    assert some.ended == []
