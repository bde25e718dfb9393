"""Twenty uploads at once among four live streams: is every answer right, and its own?"""

import asyncio
import time
from pathlib import Path

import httpx2

from .harness import Service, final_text, running_service
from .speech import Recording, distance, recordings, words


def run(directory: Path | None, uploads: int, streams: int) -> None:
    """Compare every answer under load with the answer to the same recording alone."""
    with running_service() as service:
        asyncio.run(_run(service, recordings(directory), uploads, streams))


async def _run(service: Service, parts: list[Recording], uploads: int, streams: int) -> None:
    async with httpx2.AsyncClient(timeout=600) as client:
        alone = {part.name: (await service.transcribe(client, part.wav))["text"] for part in parts}
        live = {part.name: final_text(await service.stream(part.samples)) for part in parts[-streams:]}
        sent = [parts[i % len(parts)] for i in range(uploads)]
        began = time.monotonic()
        files = asyncio.gather(*(service.transcribe(client, part.wav) for part in sent))
        spoken = asyncio.gather(*(service.stream(part.samples, speed=1) for part in parts[-streams:]))
        answers, messages = await files, await spoken
    wrong = sum(answer["text"] != alone[part.name] for part, answer in zip(sent, answers, strict=True))
    print(f"{uploads} uploads with {streams} live streams in {time.monotonic() - began:.1f} s: {wrong} answers differ")
    for part, heard in zip(parts[-streams:], messages, strict=True):
        lags = [message["lag_ms"] for message in heard if message["type"] == "partial"]
        apart = distance(words(live[part.name]), words(final_text(heard)))
        print(
            f"live {part.name}: {apart} words differ from the same stream alone, at most {max(lags, default=0)} ms behind"
        )
