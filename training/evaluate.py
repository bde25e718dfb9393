"""Word error rates with confidence intervals by speaker, of the service's engine or of parakeet-mlx."""

import argparse
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jiwer

from .manifests import Utterance, read_manifest
from .texts import normalised

Reader = Callable[[list[Path]], list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a model made of one utterance; case and punctuation are ignored."""

    voice: str
    wrong: int
    words: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A word error rate and the bounds within which 95 of 100 draws of speakers lie; 1 is every word."""

    rate: float
    low: float
    high: float
    words: int
    voices: int

    def __str__(self) -> str:
        """In percent."""
        bounds = f"{100 * self.low:.1f} to {100 * self.high:.1f}"
        return f"{100 * self.rate:.1f} % ({bounds}) of {self.words} words, {self.voices} drawn"


def reading(item: Utterance, text: str) -> Reading:
    """Count the wrong words: substituted, deleted, inserted."""
    reference, hypothesis = normalised(item.text), normalised(text)
    if not hypothesis:
        return Reading(item.voice, len(reference.split()), len(reference.split()))
    counts = jiwer.process_words(reference, hypothesis)
    return Reading(item.voice, counts.substitutions + counts.deletions + counts.insertions, len(reference.split()))


def rate(readings: Sequence[Reading], *, draws: int = 2000) -> Rate:
    """The error rate, with an interval by bootstrap.

    Speakers are drawn, not utterances, for those of one speaker err alike; a list of fewer than five speakers is drawn
    by utterance, and its interval says nothing of other speakers.
    """
    groups: dict[str, list[Reading]] = {}
    several = len({item.voice for item in readings}) >= 5
    for place, item in enumerate(readings):
        groups.setdefault(item.voice if several else str(place), []).append(item)
    sums = [(sum(item.wrong for item in group), sum(item.words for item in group)) for group in groups.values()]
    chance = random.Random(0)  # noqa: S311 - no secret
    drawn: list[float] = []
    for _ in range(draws):
        sample = chance.choices(sums, k=len(sums))
        drawn.append(sum(wrong for wrong, _ in sample) / max(1, sum(words for _, words in sample)))
    drawn.sort()
    words = sum(total for _, total in sums)
    return Rate(
        sum(wrong for wrong, _ in sums) / max(1, words),
        drawn[int(0.025 * draws)],
        drawn[int(0.975 * draws) - 1],
        words,
        len(sums),
    )


def upstream(directory: Path) -> Reader:
    """parakeet-mlx itself in float32, whole files in one pass."""
    import mlx.core as mx  # noqa: PLC0415 - not wanted for the other engine
    from parakeet_mlx import from_pretrained  # noqa: PLC0415

    model: Any = from_pretrained(str(directory), dtype=mx.float32)
    return lambda paths: [str(model.transcribe(path).text) for path in paths]


def transcribed(directory: Path, paths: Sequence[Path], **settings: str) -> list[dict[str, Any]]:
    """What the service's command says of each file, as it says it in JSON; `settings` are those of its environment.

    Raises:
        SystemExit: It failed; with what it complained of.
    """
    command = [sys.executable, "-m", "parakeet_service", "transcribe", "--format", "json"]
    given = ["--model-id", str(directory.resolve()), *(str(path) for path in paths)]
    environment = {**os.environ, **settings}
    done = subprocess.run([*command, *given], check=False, capture_output=True, text=True, env=environment)  # noqa: S603 - our own
    if done.returncode:
        raise SystemExit(f"{done.stderr}the service failed: see above")
    return [json.loads(line) for line in done.stdout.splitlines()]


def service(directory: Path, **settings: str) -> Reader:
    """The service's own engine, cutting of long recordings included, through its command."""
    return lambda paths: [str(said["text"]) for said in transcribed(directory, paths, **settings)]


def wav(path: Path, directory: Path) -> Path:
    """A file as 16-bit WAV, which every engine reads; `path` itself if it already is one."""
    import soundfile  # noqa: PLC0415 - only for other formats

    if path.suffix == ".wav":
        return path
    audio, sample_rate = soundfile.read(path, dtype="int16")
    made = directory / f"{path.stem}.wav"
    with wave.open(str(made), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(audio.tobytes())
    return made


def main() -> None:
    """``python -m training.evaluate``: read test lists with a checkpoint, and print what went wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("manifest", type=Path, nargs="+", help="file.tsv, its audio in file/ or beside it")
    parser.add_argument("--model", type=Path, required=True, help="directory of config.json and model.safetensors")
    parser.add_argument("--engine", choices=("service", "upstream"), default="service")
    parser.add_argument("--out", type=Path, help="write every text there, as JSON lines")
    arguments = parser.parse_args()
    read = (service if arguments.engine == "service" else upstream)(arguments.model)
    lines: list[str] = []
    for path in arguments.manifest:
        beside = path.with_suffix("")
        found = read_manifest(path, audio=beside if beside.is_dir() else path.parent)
        with tempfile.TemporaryDirectory() as scratch:
            texts = read([wav(item.file, Path(scratch)) for item in found])
        by_corpus: dict[str, list[Reading]] = {}
        for item, text in zip(found, texts, strict=True):
            by_corpus.setdefault(item.corpus, []).append(reading(item, text))
            lines.append(json.dumps({"file": item.file.name, "text": item.text, "read": text}))
        by_corpus["all"] = [item for readings in by_corpus.values() for item in readings]
        for corpus, readings in by_corpus.items():
            print(f"{path.stem} {corpus}: {rate(readings)}")
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
