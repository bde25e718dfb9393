"""Whether memory grows with the number of requests."""

import asyncio
import random
import tempfile
from pathlib import Path

import httpx2

from .harness import Service, model_directory, running_service
from .report import Chart, Table
from .speech import Recording, clip, joined, recordings

_AT_ONCE = 4
_SHORTEST_S, _LONGEST_S = 0.5, 30.0
_MOST_GROWTH = 0.10


def run(directory: Path | None, model: str, requests: int, every: int) -> Chart:
    """Print the resident memory as requests of mixed length are answered, four at once, under default settings.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        requests: How many are sent.
        every: After how many the memory is looked at, when all of them have been answered.
    """
    if requests < 2 * every:
        raise SystemExit(f"growth shows after {2 * every} requests at least")
    with tempfile.TemporaryDirectory() as scratch:
        found = model_directory(model, Path(scratch))
        with running_service(MODEL_ID=found, PROCESSING_TIMEOUT="3600") as service:
            return asyncio.run(_run(service, joined(recordings(directory), at_least_s=90), requests, every))


async def _run(service: Service, speech: Recording, requests: int, every: int) -> Chart:
    # Always the same lengths in the same order.
    lengths = random.Random(17)  # noqa: S311 - no secret
    places = asyncio.Semaphore(_AT_ONCE)
    resident: list[tuple[float, float]] = []
    table = Table("requests", "resident", "growth")
    async with httpx2.AsyncClient(timeout=3600) as client:

        async def send(number: int, seconds: float) -> None:
            async with places:
                await service.transcribe(client, Recording("clip", clip(speech.samples, number, seconds), None).wav)

        for first in range(0, requests - every + 1, every):
            numbers = range(first, first + every)
            await asyncio.gather(*(send(number, lengths.uniform(_SHORTEST_S, _LONGEST_S)) for number in numbers))
            resident.append((first + every, service.resident_mb()))
            growth = resident[-1][1] / resident[0][1] - 1
            table.row(str(first + every), f"{resident[-1][1]:.0f} MB", f"{growth:+.1%}")
    # By 10 times the first count, which is 1,000 after 100.
    count, last_mb = next(((count, mb) for count, mb in resident if count >= 10 * every), resident[-1])
    growth = last_mb / resident[0][1] - 1
    verdict = "within" if growth <= _MOST_GROWTH else "NOT within"
    print(f"growth from {every} to {count:.0f} requests: {growth:+.1%}, {verdict} {_MOST_GROWTH:.0%}")
    return Chart("Resident memory", "requests answered", "MB", {"service": resident})
