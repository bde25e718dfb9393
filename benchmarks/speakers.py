"""Speakers in a process of their own, for `live`: many of them would else wait for each other, and not for the service."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from parakeet_service.entrypoints.cli.live_client import FRAME_S, connected

from .conversation import conversation
from .follower import Follower
from .harness import Service
from .speech import RATE_HZ, Recording, clip, joined, recordings, words

FRAME = int(FRAME_S * RATE_HZ)


@dataclass(frozen=True, slots=True)
class Context:
    """How the stream is cut into windows, in seconds; see `StreamContext`."""

    left_s: float
    chunk_s: float
    right_s: float

    @classmethod
    def of(cls, text: str) -> "Context":
        """As it stands on the command line: ``6,1,6``.

        Raises:
            ValueError: There are not three numbers.
        """
        left_s, chunk_s, right_s = map(float, text.split(","))
        return cls(left_s, chunk_s, right_s)

    def __str__(self) -> str:
        return f"{self.left_s:g},{self.chunk_s:g},{self.right_s:g}"

    @property
    def options(self) -> dict[str, float]:
        """As ``config`` takes it."""
        return {"left_context_s": self.left_s, "chunk_s": self.chunk_s, "right_context_s": self.right_s}


@dataclass(slots=True)
class Speeches:
    """What the sessions say, each something else, and what the service reads in it as a file.

    Without pauses it is a stretch of the recordings one after the other.
    """

    directory: Path | None
    seconds: float
    pauses: bool
    _texts: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _parts: Sequence[Recording] = ()
    _all: NDArray[np.int16] | None = None

    def of(self, number: int) -> NDArray[np.int16]:
        parts = self._parts = self._parts or recordings(self.directory)
        if self.pauses:
            return conversation(parts, number, self.seconds)
        if self._all is None:
            once_s = sum(part.duration_s for part in parts)
            self._all = joined(parts, at_least_s=self.seconds + once_s).samples
        return clip(self._all, number, self.seconds)

    async def offline(self, service: Service, number: int) -> list[str]:
        if number not in self._texts:
            async with httpx2.AsyncClient(timeout=None) as client:
                answer = await service.transcribe(client, Recording("speech", self.of(number), None).wav)
            self._texts[number] = words(answer["text"])
        return self._texts[number]


@dataclass(slots=True)
class _Pace:
    """Frames when a microphone would have them.

    Attributes:
        frames: Of `FRAME_S` each.
        began_s: When the first sample was spoken, on the monotonic clock.
        unsent_s: How much longer the last frame has waited because the service took no more.
        late_s: By how much our own loop was late, at worst.
    """

    frames: Sequence[bytes]
    began_s: float = 0.0
    unsent_s: float = 0.0
    late_s: float = 0.0

    async def audio(self) -> AsyncGenerator[bytes]:
        self.began_s = time.monotonic()
        for number, frame in enumerate(self.frames, 1):
            due_s, asked_s = self.began_s + number * FRAME_S, time.monotonic()
            await asyncio.sleep(max(due_s - asked_s, 0))
            now_s = time.monotonic()
            self.late_s = max(self.late_s, now_s - max(due_s, asked_s))
            self.unsent_s = max(asked_s - due_s, 0.0)
            yield frame


async def converse(url: str, speeches: Speeches, numbers: range, context: Context | None) -> dict[str, list[Any]]:
    """Have these speakers speak, once standard input says so; gives what each heard."""
    audio = [speeches.of(number) for number in numbers]
    frames = [[part[at : at + FRAME].tobytes() for at in range(0, len(part), FRAME)] for part in audio]
    paces = [_Pace(part) for part in frames]
    print(flush=True)
    sys.stdin.readline()
    # People do not begin to speak together; steps of golden length never fall in with each other.
    followers = await asyncio.gather(
        *(_session(url, pace, context, number * 0.618 % 1) for number, pace in zip(numbers, paces, strict=True))
    )
    return {
        "numbers": list(numbers),
        "seen_s": list(_together(follower.seen_s for follower in followers)),
        "stable_s": list(_together(follower.stable_s for follower in followers)),
        "lag_s": list(_together(follower.lag_s for follower in followers)),
        "final_s": list(_together(follower.final_s for follower in followers)),
        "changed": [follower.changed for follower in followers],
        "words": [follower.words for follower in followers],
        "texts": [" ".join(follower.texts) for follower in followers],
        "late_s": [pace.late_s for pace in paces],
    }


async def _session(url: str, pace: _Pace, context: Context | None, begin_s: float) -> Follower:
    await asyncio.sleep(begin_s)
    follower = Follower()
    async with connected(live_url(url)) as client:
        await client.configure(words=True, **({} if context is None else context.options))
        async with aclosing(client.converse(pace.audio())) as messages:
            async for message in messages:
                follower.hear(message, time.monotonic() - pace.began_s, unsent_s=pace.unsent_s)
    return follower


def live_url(url: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/ws"


def _together(parts: Iterable[Sequence[float]]) -> list[float]:
    return [value for part in parts for value in part]


if __name__ == "__main__":
    url, directory, seconds, pauses, context, *numbers = sys.argv[1:]
    said = Speeches(Path(directory) if directory else None, float(seconds), bool(pauses))
    asked = Context.of(context) if context else None
    print(json.dumps(asyncio.run(converse(url, said, range(*map(int, numbers)), asked))))
