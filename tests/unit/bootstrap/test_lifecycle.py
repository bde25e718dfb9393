from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from parakeet_service.application.service import Service
from parakeet_service.bootstrap.lifecycle import beside
from tests.unit.entrypoints.world import World


@asynccontextmanager
async def server(name: str, told: list[str], service: Service) -> AsyncGenerator[None]:
    told.append(f"{name} accepts")
    try:
        yield
    finally:
        service.model.describe()
        told.append(f"{name} is left")


async def test_servers_accept_before_the_model_is_ready_and_are_left_before_it_is_closed() -> None:
    world, told = World(), list[str]()

    async with beside(world.service, [partial(server, "a", told), partial(server, "b", told)]).lifecycle() as ready:
        assert told == ["a accepts", "b accepts"]
        assert not ready.done()
        await ready
        assert not world.stopped

    assert told[2:] == ["b is left", "a is left"]
    assert world.stopped


async def test_what_accepts_already_is_left_where_a_later_one_cannot() -> None:
    world, told = World(), list[str]()

    @asynccontextmanager
    async def cannot(_: Service) -> AsyncGenerator[None]:
        await world.model.start()
        raise OSError("taken")
        yield

    with pytest.raises(OSError, match="taken"):
        async with beside(world.service, [partial(server, "a", told), cannot]).lifecycle():
            pass

    assert told == ["a accepts", "a is left"]
    assert world.stopped
