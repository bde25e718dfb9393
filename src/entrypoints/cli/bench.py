"""``parakeet-service bench``: how fast this machine is with the configured model."""

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from ...application.ports.speech_model import ModelDescription
from ...application.transcribe_file import TranscribeFile
from ...domain.errors import CallerError, ServiceError
from .context import CommandContext
from .exit_code import ExitCode

_AT_ONCE = (1, 4, 16)
_THROUGHPUT_ROUNDS = 3
_BLOCK_BYTES = 1 << 18
_RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024

_Findings: TypeAlias = dict[str, object]
"""What was found, by name; seconds, megabytes, or real-time factors."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What it took to read so much audio."""

    took_s: float
    audio_s: float

    @property
    def real_time_factor(self) -> float:
        """Processing time per second of audio, as everywhere: less is faster."""
        return self.took_s / self.audio_s


async def bench(context: CommandContext, recording: Path, *, rounds: int, as_json: bool) -> ExitCode:
    """Read one recording over and over, alone and many at once, and print what that took.

    Args:
        context: Its model is loaded, under its settings.
        recording: Of any format.
        rounds: How often it is read alone, at least once.
        as_json: Print one object at the end instead of lines as they are found.
    """
    screen = _Screen(silent=as_json)
    try:
        content = await asyncio.to_thread(recording.read_bytes)
        began = perf_counter()
        async with context.open_transcriber() as transcribe_file:
            findings = screen.show_model(transcribe_file.model.describe(), loaded_s=perf_counter() - began)
            findings |= await _measure(transcribe_file, content, rounds, screen)
    except OSError as error:
        return _complain(f"{recording}: {error.strerror or error}", ExitCode.UNREADABLE)
    except CallerError as error:
        return _complain(f"{recording}: {error.message}", ExitCode.UNREADABLE)
    except ServiceError as error:
        return _complain(error.message, ExitCode.FAULT)
    # After the model is closed: the memory of a process of its own is known only once it has ended.
    findings |= screen.show_memory(isolated=context.changed_settings.get("ISOLATION") == "process")
    if as_json:
        print(json.dumps(findings, ensure_ascii=False))
    return ExitCode.DONE


async def _measure(transcribe_file: TranscribeFile, content: bytes, rounds: int, screen: "_Screen") -> _Findings:
    # Not counted: what is read for the first time compiles kernels and fills caches. So below, for each number.
    await _read(transcribe_file, content, at_once=1)
    alone = [await _read(transcribe_file, content, at_once=1) for _ in range(rounds)]
    findings = screen.show_latency(alone)
    by_number: dict[str, _Reading] = {}
    for at_once in _AT_ONCE:
        _, *readings = [await _read(transcribe_file, content, at_once=at_once) for _ in range(_THROUGHPUT_ROUNDS + 1)]
        reading = _Reading(statistics.median(each.took_s for each in readings), readings[0].audio_s)
        screen.show_throughput(at_once, reading)
        by_number[str(at_once)] = reading
    return findings | {
        "at_once": {
            number: {"seconds": round(reading.took_s, 6), "real_time_factor": round(reading.real_time_factor, 6)}
            for number, reading in by_number.items()
        }
    }


async def _read(transcribe_file: TranscribeFile, content: bytes, *, at_once: int) -> _Reading:
    began = perf_counter()
    # Each to its end, even if one fails: nothing may still be at work when the model is closed.
    results = await asyncio.gather(*(transcribe_file(_blocks(content)) for _ in range(at_once)), return_exceptions=True)
    took_s, audio_s = perf_counter() - began, 0.0
    for result in results:
        if isinstance(result, BaseException):
            raise result
        audio_s += result.duration_s
    return _Reading(took_s, audio_s)


async def _blocks(content: bytes) -> AsyncGenerator[bytes]:
    for start in range(0, len(content), _BLOCK_BYTES):
        yield content[start : start + _BLOCK_BYTES]


class _Screen:
    """Shows each finding once it is there, in words, and gives it under its name for JSON."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def show_model(self, model: ModelDescription, *, loaded_s: float) -> _Findings:
        self._say("model", model.id)
        self._say("device", model.device)
        self._say("precision", f"weights {model.precision}, arithmetic {model.compute}")
        self._say("BLAS", model.blas or "provided by the platform")
        self._say("loaded in", f"{loaded_s:.1f} s")
        return {
            "model": model.id,
            "device": model.device,
            "precision": model.precision,
            "compute": model.compute,
            "blas": model.blas,
            "loaded_s": round(loaded_s, 3),
        }

    def show_latency(self, alone: list[_Reading]) -> _Findings:
        taken_s = [reading.took_s for reading in alone]
        median_s, worst_s, audio_s = statistics.median(taken_s), max(taken_s), alone[0].audio_s
        self._say(
            f"{audio_s:.1f} s of audio",
            f"median {median_s:.3f} s, worst {worst_s:.3f} s ({len(alone)} runs, one at a time)",
        )
        return {
            "audio_s": round(audio_s, 3),
            "latency_median_s": round(median_s, 6),
            "latency_worst_s": round(worst_s, 6),
            "rounds": len(alone),
        }

    def show_throughput(self, at_once: int, reading: _Reading) -> None:
        self._say(
            f"{at_once} in parallel", f"{reading.took_s:.3f} s, {1 / reading.real_time_factor:.1f} times real time"
        )

    def show_memory(self, *, isolated: bool) -> _Findings:
        if sys.platform == "win32":
            return {}
        import resource  # noqa: PLC0415 - Windows has none

        own_mb, child_mb = (
            resource.getrusage(who).ru_maxrss * _RSS_UNIT_BYTES / 1e6
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        # Without isolation the children are short-lived tools; a figure for them would only mislead.
        self._say("resident memory", f"peak {own_mb:.0f} MB{f', model process {child_mb:.0f} MB' if isolated else ''}")
        findings: _Findings = {"most_resident_mb": round(own_mb, 1)}
        if isolated:
            findings["most_resident_model_mb"] = round(child_mb, 1)
        return findings

    def _say(self, name: str, value: str) -> None:
        if not self._silent:
            print(f"{name:<18} {value}", flush=True)


def _complain(line: str, code: ExitCode) -> ExitCode:
    print(line, file=sys.stderr)
    return code
