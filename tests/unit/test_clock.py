import asyncio
import time

import pytest


@pytest.mark.leaping_clock
async def test_hours_pass_at_once_and_in_their_order() -> None:
    clock, began = asyncio.get_running_loop().time, time.monotonic()
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        woken.append((name, clock()))

    await asyncio.gather(sleep("late", 7200), sleep("early", 60))
    assert [name for name, _ in woken] == ["early", "late"]
    assert [at_s for _, at_s in woken] == pytest.approx([60, 7200])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    assert clock() == pytest.approx(7230)
    assert time.monotonic() - began < 3600


@pytest.mark.leaping_clock
async def test_work_that_needs_no_time_takes_none() -> None:
    for _ in range(100):
        await asyncio.sleep(0)
    assert asyncio.get_running_loop().time() == 0
