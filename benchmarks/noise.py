"""Noise with and without the detector of speech: words imagined in it, words lost in it, and what detection costs."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray

from parakeet_service.adapters.vad.scoring import score
from parakeet_service.adapters.vad.silero import SileroVad

from .harness import Service, model_directory, running_service
from .speech import RATE_HZ, Recording, distance, joined, recordings, words

Signal = NDArray[np.float64]

_DETECTORS = ("none", "silero")
_LEVELS_DB = (-50, -30, -15)
_SNRS_DB = (20, 10, 0)
_PURE_S = 20.0
_AROUND_S = 1.0
"""Noise before and behind each recording, where words may be imagined."""


def run(directory: Path | None, model: str) -> None:
    """Print words in pure noise, word errors by signal-to-noise ratio, and times; each with and without detector.

    Args:
        directory: Of recordings; by default the bundled one. Errors are counted if each of them has a text.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
    """
    parts = recordings(directory)
    noises = _noises(parts)
    loudness = _level(joined(parts).samples / 32768)
    pure = {
        kind: [_recording(_scaled(make(int(_PURE_S * RATE_HZ)), level)) for level in _LEVELS_DB]
        for kind, make in noises.items()
    }
    mixed = {"clean": [_around(part.samples / 32768) for part in parts]}
    quiet = (-20, -40)
    mixed |= {
        f"clean, {gain} dB": [_around(part.samples / 32768 * 10 ** (gain / 20)) for part in parts] for gain in quiet
    }
    for kind in ("white", "pink", "babble"):
        for snr in _SNRS_DB:
            spoken = [_around(part.samples / 32768) for part in parts]
            mixed[f"{kind}, {snr} dB"] = [x + _scaled(noises[kind](len(x)), loudness - snr) for x in spoken]
    sparse = _recording(
        np.concatenate([np.concatenate([_around(p.samples / 32768), np.zeros(9 * RATE_HZ)]) for p in parts])
    )
    print(f"silence: {sum(part.duration_s for part in parts):.0f} s of speech in {sparse.duration_s:.0f} s")
    if not all(part.text for part in parts):
        print("not every recording has a text: no errors are counted")
        mixed = {}
    with tempfile.TemporaryDirectory() as scratch:
        model_id = model_directory(model, Path(scratch))
        results = [asyncio.run(_measure(model_id, vad, parts, pure, mixed, sparse)) for vad in _DETECTORS]
    print(f"{'':<20} {'no detector':>14} {'silero':>14}")
    for row in results[0]:
        print(f"{row:<20} {results[0][row]:>14} {results[1][row]:>14}")
    print(f"detection alone: {_detection_speed(joined(parts, at_least_s=600)):.0f} times real time")


async def _measure(
    model_id: str,
    vad: str,
    parts: Sequence[Recording],
    pure: dict[str, list[Recording]],
    mixed: dict[str, list[Signal]],
    sparse: Recording,
) -> dict[str, str]:
    rows: dict[str, str] = {}
    with running_service(MODEL_ID=model_id, VAD=vad, PROCESSING_TIMEOUT="3600") as service:
        async with httpx2.AsyncClient(timeout=3600) as client:
            for kind, signals in pure.items():
                heard = [len(await _words(service, client, signal)) for signal in signals]
                rows[f"words in {kind}"] = " ".join(map(str, heard))
            for name, signals in mixed.items():
                wrong = spoken = 0
                for part, signal in zip(parts, signals, strict=True):
                    reference = words(part.text or "")
                    wrong += distance(reference, await _words(service, client, _recording(signal)))
                    spoken += len(reference)
                rows[f"errors, {name}"] = f"{wrong} of {spoken}"
            began_s = service.cpu_s()
            rows["words among silence"] = str(len(await _words(service, client, sparse)))
            rows["processor time"] = f"{service.cpu_s() - began_s:.1f} s"
    return rows


async def _words(service: Service, client: httpx2.AsyncClient, recording: Recording) -> list[str]:
    return words((await service.transcribe(client, recording.wav))["text"])


def _detection_speed(recording: Recording) -> float:
    """Times real time, in one thread, a second at a time."""
    stream = SileroVad().open(sample_rate_hz=RATE_HZ)
    samples = recording.samples.astype(np.float32) / np.float32(32768)
    began = time.thread_time()
    for start in range(0, len(samples), RATE_HZ):
        score(stream.network, stream.signal, samples[start : start + RATE_HZ])
    return recording.duration_s / (time.thread_time() - began)


def _recording(signal: Signal) -> Recording:
    return Recording("", (np.clip(signal, -1, 1) * 32767).astype(np.int16), None)


def _around(signal: Signal) -> Signal:
    return np.pad(signal, int(_AROUND_S * RATE_HZ))


def _level(signal: Signal) -> float:
    """In dB of full scale, of the parts that are not silent."""
    power = np.square(signal[: len(signal) // 400 * 400].reshape(-1, 400)).mean(axis=1)
    return float(10 * np.log10(power[power > power.max() / 1000].mean()))


def _scaled(signal: Signal, level_db: float) -> Signal:
    return signal / np.sqrt(np.square(signal).mean()) * 10 ** (level_db / 20)


def _noises(parts: Sequence[Recording]) -> dict[str, Callable[[int], Signal]]:
    """What makes so many samples of each noise; always the same."""
    random = np.random.default_rng(14)

    def coloured(length: int, slope: float) -> Signal:
        frequency = np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 20)
        return np.fft.irfft(np.fft.rfft(random.standard_normal(length)) * frequency ** (-slope / 2), length)

    def hum(length: int) -> Signal:
        t = np.arange(length) / RATE_HZ
        tones = sum(level * np.sin(2 * np.pi * hz * t) for hz, level in ((50, 1.0), (100, 0.6), (150, 0.4), (250, 0.2)))
        return tones + 0.02 * random.standard_normal(length)

    def music(length: int) -> Signal:
        """Three notes of a pentatonic scale every 0.4 s, struck and fading, with overtones."""
        t, notes = np.arange(length) / RATE_HZ, 220 * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
        signal = np.zeros(length)
        for begin in np.arange(0, length / RATE_HZ, 0.4):
            since = np.maximum(t - begin, 0)
            envelope = np.exp(-4 * since) * (t >= begin) * (since < 2)
            for note in random.choice(notes, 3):
                signal += envelope * sum(np.sin(2 * np.pi * note * k * t) / k for k in range(1, 5))
        return signal

    def clicks(length: int) -> Signal:
        """Keys struck three to twelve times a second over a faint hiss."""
        signal, at = 0.003 * random.standard_normal(length), 0
        while (at := at + int(RATE_HZ * random.uniform(0.08, 0.35))) + 800 <= length:
            signal[at : at + 800] += random.standard_normal(800) * np.exp(-np.arange(800) / 80) * random.uniform(0.4, 1)
        return signal

    def babble(length: int) -> Signal:
        """Eight voices at once, backwards, so that no word of theirs can be read."""
        voices = joined(parts).samples[::-1] / 32768
        return sum(
            (np.resize(np.roll(voices, random.integers(len(voices))), length) for _ in range(8)), np.zeros(length)
        )

    return {
        "white": random.standard_normal,
        "pink": lambda length: coloured(length, 1),
        "brown": lambda length: coloured(length, 2),
        "hum": hum,
        "music": music,
        "clicks": clicks,
        "babble": babble,
    }
