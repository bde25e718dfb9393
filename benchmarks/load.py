"""One of several processes that load a service, so that the clients do not limit what is measured.

Run as ``python -m benchmarks.load URL SAMPLES SHORTEST LONGEST AT_ONCE SECONDS SEED``; SAMPLES is a ``.npy``. Prints,
for each answer, when it was asked for (by a clock that all processes share), how long it took and how much audio it
was, in seconds.
"""

import asyncio
import json
import sys
import time

import httpx2
import numpy as np

from .speech import RATE_HZ, Recording


def main() -> None:
    """Load the service, and print what its answers took."""
    url, path, shortest, longest, at_once, seconds, seed = sys.argv[1:]
    samples = np.load(path, mmap_mode="r")
    random = np.random.default_rng(int(seed))

    def recording() -> tuple[float, bytes]:
        length = int(random.uniform(float(shortest), float(longest)) * RATE_HZ)
        start = int(random.integers(len(samples) - length + 1))
        return length / RATE_HZ, Recording("clip", samples[start : start + length], None).wav

    async def load() -> list[tuple[float, float, float]]:
        answers: list[tuple[float, float, float]] = []
        end = time.monotonic() + float(seconds)

        async def one(client: httpx2.AsyncClient) -> None:
            while time.monotonic() < end:
                audio_s, content = recording()
                began = time.monotonic()
                answer = await client.post(f"{url}/transcribe", files={"file": ("clip.wav", content)})
                answer.raise_for_status()
                answers.append((began, time.monotonic() - began, audio_s))

        # Before the server closes what has been idle for 5 s.
        limits = httpx2.Limits(keepalive_expiry=2, max_connections=None)
        async with httpx2.AsyncClient(timeout=3600, limits=limits) as client:
            await asyncio.gather(*(one(client) for _ in range(int(at_once))))
        return answers

    print(json.dumps(asyncio.run(load())))


if __name__ == "__main__":
    main()
