"""Three ways to read a stream with the same model: ours, reading each utterance again and again, and parakeet-mlx's own."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parakeet_service.application.live_transcriber import LiveTranscriber
from parakeet_service.application.ports.speech_model import SpeechModel
from parakeet_service.application.stream_session import StreamSession
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings
from parakeet_service.domain.audio import NO_SAMPLES, Encoding
from parakeet_service.domain.live import Final, Partial
from parakeet_service.domain.transcript import words_of
from parakeet_service.domain.vad import VadEndpointer
from parakeet_service.domain.vad_gate import VadGate

from .harness import model_directory
from .report import Table
from .speech import RATE_HZ, Recording, distance, recordings, words

_CHUNK_S = 1.0
_HOP_S = 0.1
_PAUSE_S = 1.0
"""Between two recordings."""
_LONGEST_S = 60.0
"""Of it all is read: parakeet-mlx needs minutes for that on two cores."""
_UPSTREAM = (64, 16)
"""Frames of 80 ms that its attention keeps before and behind."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one way.

    Attributes:
        text: All of it.
        taken_back: Words that were called stable, or where nothing is called so were shown, and then changed.
        cpu_s: Time of all cores.
    """

    text: str
    taken_back: int
    cpu_s: float


def run(directory: Path | None, model: str) -> None:
    """Print a line for each way, beside the text of the same audio as a recording."""
    configure_logging(level="WARNING", log_format="auto")
    parts: list[Recording] = []
    for recording in recordings(directory):
        if sum(part.duration_s + _PAUSE_S for part in parts) + recording.duration_s < _LONGEST_S:
            parts.append(recording)
    pause = np.zeros(int(_PAUSE_S * RATE_HZ), np.int16)
    audio = np.concatenate([piece for part in parts for piece in (part.samples, pause)]).astype(np.float32)
    audio /= np.float32(32768)
    reference = words(" ".join(part.text or "" for part in parts))
    with tempfile.TemporaryDirectory() as scratch:
        model_id = model_directory(model, Path(scratch))
        offline, ours, again = asyncio.run(_in_process(Settings(model_id=model_id), audio))
        samples = Path(scratch) / "audio.npy"
        np.save(samples, audio)
        rows = {"windows with carried state": ours, "each utterance again and again": again}
        rows[f"parakeet-mlx, context {_UPSTREAM}"] = _upstream(model_id, samples)
    table = Table("way", "words apart from the file's", "word errors", "words taken back", "CPU s per s")
    for name, heard in rows.items():
        found = words(heard.text)
        apart = distance(words(offline), found) / max(len(words(offline)), 1)
        errors = f"{distance(reference, found) / len(reference):.1%}" if reference else "-"
        table.row(name, f"{apart:.1%}", errors, str(heard.taken_back), f"{heard.cpu_s / (len(audio) / RATE_HZ):.3f}")


async def _in_process(settings: Settings, audio: NDArray[np.float32]) -> tuple[str, Heard, Heard]:
    container = Container(settings=settings)
    model = container.model()
    await model.start()
    try:
        recording = Recording("all", (audio * 32768).astype(np.int16), None)
        offline = await container.transcribe_file()(_once(recording.wav))
        return offline.text, await _live(container.stream_session(), audio), await _again(container, model, audio)
    finally:
        await model.aclose()


async def _once(data: bytes) -> AsyncGenerator[bytes]:
    yield data


async def _live(session: StreamSession, audio: NDArray[np.float32]) -> Heard:
    """As it is, fed no faster than it listens."""
    options = replace(session.defaults, encoding=Encoding.PCM_F32LE)
    finals: list[str] = []
    stable: tuple[str, ...] = ()
    taken_back = 0
    began_s = time.process_time()
    async with session.open(options) as live, asyncio.TaskGroup() as tasks:
        tasks.create_task(_feed(live, audio))
        async for event in live.events():
            if isinstance(event, Partial | Final):
                shown = tuple(word.text for word in (event.stable if isinstance(event, Partial) else event.words))
                taken_back += _changed(stable, shown)
                stable = shown if isinstance(event, Partial) else ()
            if isinstance(event, Final):
                finals.append(event.text)
    return Heard(" ".join(finals), taken_back, time.process_time() - began_s)


async def _feed(live: LiveTranscriber, audio: NDArray[np.float32]) -> None:
    hop = int(_HOP_S * RATE_HZ)
    for at in range(0, len(audio), hop):
        await live.send(audio[at : at + hop].tobytes())
        while live.heard_s < at / RATE_HZ:  # noqa: ASYNC110 - a measurement may poll
            await asyncio.sleep(0.001)
    await live.close()


async def _again(container: Container, model: SpeechModel, audio: NDArray[np.float32]) -> Heard:
    """Each second the utterance is read from its beginning, as if it ended there."""
    session, limit_s = container.stream_session(), model.describe().max_window_s
    if session.detector is None:
        raise SystemExit("it needs a detector of speech")
    voice = session.detector.open(sample_rate_hz=RATE_HZ)
    spans = VadEndpointer(session.defaults.endpointing.detection(), frame_s=voice.frame / RATE_HZ, long_s=limit_s / 2)
    gate = VadGate(spans, frame=voice.frame)
    texts: list[str] = []
    shown: tuple[str, ...] = ()
    heard, unread, taken_back = NO_SAMPLES, 0, 0
    began_s = time.process_time()
    hop = int(_HOP_S * RATE_HZ)
    for at in range(0, len(audio), hop):
        piece = audio[at : at + hop]
        for passage in gate.filter(piece, (await voice.score(piece)).tolist()):
            heard, unread = np.concatenate([heard, passage.samples]), unread + len(passage.samples)
            ends = passage.closes or len(heard) > (limit_s - _HOP_S) * RATE_HZ
            if not ends and unread < _CHUNK_S * RATE_HZ:
                continue
            now = tuple(word.text for word in words_of(await model.transcribe(heard)))
            taken_back += _changed(shown, now)
            shown, unread = now, 0
            if ends:
                texts.append(" ".join(now))
                heard, shown = NO_SAMPLES, ()
    return Heard(" ".join([*texts, *shown]), taken_back, time.process_time() - began_s)


def _changed(before: tuple[str, ...], now: tuple[str, ...]) -> int:
    """How many words of a text do not stand in the next one as they did."""
    return len(before) - sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False)))


def _upstream(model_id: str, samples: Path) -> Heard:
    """In a process of its own, as its wheel comes."""
    command = [sys.executable, "-m", "benchmarks.methods", model_id, str(samples)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Heard(**json.loads(found))


def _upstream_alone(model_id: str, samples: Path) -> Heard:
    import mlx.core as mx  # noqa: PLC0415 - ours chooses a BLAS first
    from parakeet_mlx import from_pretrained  # noqa: PLC0415

    model: Any = from_pretrained(model_id)
    audio = np.load(samples)
    text, taken_back = "", 0
    chunk = int(_CHUNK_S * RATE_HZ)
    began_s = time.process_time()
    # Its other attention runs on Metal alone.
    keep = not mx.metal.is_available()
    with model.transcribe_stream(context_size=_UPSTREAM, keep_original_attention=keep) as stream:
        for at in range(0, len(audio), chunk):
            stream.add_audio(mx.array(audio[at : at + chunk]))
            final = "".join(token.text for token in stream.finalized_tokens)
            taken_back += 0 if final.startswith(text) else 1
            text = final
        text = stream.result.text
    return Heard(text, taken_back, time.process_time() - began_s)


if __name__ == "__main__":
    print(json.dumps(asdict(_upstream_alone(sys.argv[1], Path(sys.argv[2])))))
