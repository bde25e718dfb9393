"""Word error rate over REST, and how far the live text is from it."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import httpx2

from .harness import Service, final_text, model_directory, running_service
from .speech import distance, recordings, words


def run(directory: Path | None, model: str) -> None:
    """Print a line per recording, and the totals; `model` is ``embedded``, ``0.6b`` or a directory."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_service(MODEL_ID=model_directory(model, Path(scratch))) as service,
    ):
        asyncio.run(_run(service, directory))


async def _run(service: Service, directory: Path | None) -> None:
    errors = spoken = apart = heard = 0
    print(f"{'recording':<24} {'words':>5} {'errors':>6} {'live differs by':>15}")
    async with httpx2.AsyncClient(timeout=600) as client:
        for recording in recordings(directory):
            answer = await service.transcribe(client, recording.wav, include_timestamps="true")
            _check(answer, recording.duration_s)
            offline = words(answer["text"])
            live = words(final_text(await service.stream(recording.samples)))
            reference = words(recording.text or "")
            wrong = distance(reference, offline) if reference else 0
            print(f"{recording.name:<24} {len(offline):>5} {wrong:>6} {distance(offline, live):>15}")
            errors, spoken = errors + wrong, spoken + len(reference)
            apart, heard = apart + distance(offline, live), heard + len(offline)
    if spoken:
        print(f"word error rate: {errors / spoken:.1%} of {spoken} words")
    print(f"live text differs from file text: {apart / heard:.1%} of {heard} words")


def _check(answer: dict[str, Any], duration_s: float) -> None:
    """Words lie inside the recording, and the segments cover them."""
    heard, segments = answer["timestamps"]["words"], answer["timestamps"]["segments"]
    times = [time for word in heard for time in (word["start"], word["end"])]
    if times != sorted(times) or (times and not 0 <= times[0] <= times[-1] <= duration_s + 0.001):
        raise SystemExit(f"times are wrong: {heard}")
    if " ".join(segment["text"] for segment in segments) != answer["text"]:
        raise SystemExit(f"segments do not cover the text: {segments}")
    for word in heard:
        if not any(s["start"] <= word["start"] and word["end"] <= s["end"] for s in segments):
            raise SystemExit(f"no segment covers {word}")
