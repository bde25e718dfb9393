"""Ten minutes of speech through the service: memory, health while it works, and the text at the seams."""

import asyncio
import statistics
import time
from pathlib import Path

import httpx2

from .harness import Service, running_service
from .speech import distance, joined, recordings, words


def run(directory: Path | None, minutes: float) -> None:
    """Print memory, latency of ``/healthz`` and the text's distance from the parts' texts."""
    with running_service(PROCESSING_TIMEOUT="3600") as service:
        asyncio.run(_run(service, directory, minutes))


async def _run(service: Service, directory: Path | None, minutes: float) -> None:
    parts = recordings(directory)
    # Before anything is read: what is kept from one recording to the next counts, too.
    idle_mb = service.resident_mb()
    async with httpx2.AsyncClient(timeout=3600) as client:
        texts = [(await service.transcribe(client, part.wav))["text"] for part in parts]
        whole = joined(parts, at_least_s=60 * minutes)
        repeats = round(whole.duration_s / sum(part.duration_s for part in parts))
        expected = words(" ".join(texts)) * repeats
        spoken = words(" ".join(part.text or "" for part in parts)) * repeats
        peak_mb, latencies_ms = idle_mb, list[float]()
        began = time.monotonic()
        work = asyncio.create_task(service.transcribe(client, whole.wav))
        while not work.done():
            asked = time.monotonic()
            (await client.get(f"{service.url}/healthz")).raise_for_status()
            latencies_ms.append(1000 * (time.monotonic() - asked))
            peak_mb = max(peak_mb, service.resident_mb())
            await asyncio.wait((work,), timeout=0.1)
        took_s = time.monotonic() - began
        heard = words((await work)["text"])
    print(f"{whole.duration_s:.0f} s of speech in {took_s:.1f} s: {whole.duration_s / took_s:.0f} times real time")
    print(f"resident memory: {idle_mb:.0f} MB idle, {peak_mb:.0f} MB at most: {peak_mb - idle_mb:+.0f} MB")
    print(f"/healthz: median {statistics.median(latencies_ms):.1f} ms, worst {max(latencies_ms):.1f} ms")
    print(f"words: {len(heard)}, in the parts alone: {len(expected)}")
    if spoken:
        # Windows are not the parts, so the words differ; lost or doubled ones would show as a higher error rate.
        whole_rate, parts_rate = (distance(spoken, text) / len(spoken) for text in (heard, expected))
        print(f"word error rate: {whole_rate:.1%}, of the parts alone: {parts_rate:.1%}")
