"""One of several processes that load a service, so that the clients do not limit what is measured.

Run as ``python -m benchmarks.load URL SAMPLES SHORTEST LONGEST AT_ONCE SECONDS SEED``; SAMPLES is a ``.npy``. Prints,
for each answer, when it was asked for (by a clock that all processes share), how long it took and how much audio it
was, in seconds.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable

import httpx2
import numpy as np

from .speech import RATE_HZ, Recording

_BOUNDARY = "a-boundary-that-no-recording-has"
_FORM_HEADERS = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}


def main() -> None:
    """Load the service, and print what its answers took."""
    url, path, shortest, longest, at_once, seconds, seed = sys.argv[1:]
    samples = np.load(path, mmap_mode="r")
    random = np.random.default_rng(int(seed))

    def recording() -> Callable[[], tuple[float, bytes]]:
        length = int(random.uniform(float(shortest), float(longest)) * RATE_HZ)
        start = int(random.integers(len(samples) - length + 1))
        return lambda: (length / RATE_HZ, _form(Recording("clip", samples[start : start + length], None).wav))

    async def load() -> list[tuple[float, float, float]]:
        answers: list[tuple[float, float, float]] = []
        end = time.monotonic() + float(seconds)

        async def one(client: httpx2.AsyncClient) -> None:
            following = asyncio.create_task(asyncio.to_thread(recording()))
            while time.monotonic() < end:
                audio_s, content = await following
                # Meanwhile, so that the service never waits for half an hour of audio to be put together.
                following = asyncio.create_task(asyncio.to_thread(recording()))
                began = time.monotonic()
                answer = await client.post(f"{url}/transcribe", content=content, headers=_FORM_HEADERS)
                answer.raise_for_status()
                answers.append((began, time.monotonic() - began, audio_s))
            await following

        # Before the server closes what has been idle for 5 s.
        limits = httpx2.Limits(keepalive_expiry=2, max_connections=None)
        async with httpx2.AsyncClient(timeout=3600, limits=limits) as client:
            await asyncio.gather(*(one(client) for _ in range(int(at_once))))
        return answers

    print(json.dumps(asyncio.run(load())))


def _form(wav: bytes) -> bytes:
    """The form in one piece: a client that sends 64 KiB at a time in Python takes a fifth of a second for half an hour."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n'
    return b"".join([head.encode(), wav, f"\r\n--{_BOUNDARY}--\r\n".encode()])


if __name__ == "__main__":
    main()
