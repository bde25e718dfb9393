"""How exactly words begin where they are said to: recordings are joined, so that their first words' places are known."""

import argparse
import difflib
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from .evaluate import transcribed
from .manifests import Utterance, read_manifest
from .prepare import RATE, decoded
from .texts import normalised

Samples = NDArray[np.int16]


def spoken(audio: Samples) -> Samples:
    """The audio from where it first comes within 30 dB of its loudest 10 ms to where it last does."""
    frames = audio[: len(audio) // 160 * 160].astype(np.float64).reshape(-1, 160)
    level = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (-30 / 20))
    return audio[loud[0] * 160 : (loud[-1] + 1) * 160]


def joined(items: list[Utterance], chance: random.Random) -> tuple[Samples, list[tuple[str, float]]]:
    """Utterances behind each other with pauses of 0.3 to 0.6 s, and the words with the seconds they begin at.

    Only the first word of each utterance has a time; for the others it is not a number.
    """
    pieces: list[Samples] = []
    words: list[tuple[str, float]] = []
    at = 0
    for item in items:
        pause = np.zeros(int(chance.uniform(0.3, 0.6) * RATE), np.int16)
        audio = spoken(decoded(item.file))
        at += len(pause)
        said = normalised(item.text).split()
        words += [(said[0], at / RATE), *((word, float("nan")) for word in said[1:])]
        pieces += [pause, audio]
        at += len(audio)
    return np.concatenate([*pieces, np.zeros(RATE // 2, np.int16)]), words


def errors(words: list[tuple[str, float]], found: list[dict[str, Any]]) -> list[float]:
    """Seconds by which words that were read rightly begin too late; words without a known time do not count."""
    read = [normalised(str(word["text"])) for word in found]
    match = difflib.SequenceMatcher(None, [word for word, _ in words], read, autojunk=False)
    return [
        float(found[block.b + step]["start"]) - words[block.a + step][1]
        for block in match.get_matching_blocks()
        for step in range(block.size)
        if not np.isnan(words[block.a + step][1])
    ]


def main() -> None:
    """``python -m training.word_times``: print the median error of words' beginnings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("manifest", type=Path, help="clean recordings, best of synthetic speech")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--each", type=int, default=2, help="utterances in a recording")
    parser.add_argument("--recordings", type=int, default=30)
    arguments = parser.parse_args()
    chance = random.Random(0)  # noqa: S311 - no secret
    beside = arguments.manifest.with_suffix("")
    found = read_manifest(arguments.manifest, audio=beside if beside.is_dir() else arguments.manifest.parent)
    short = [item for item in found if item.seconds < 7]
    if len(short) < arguments.each:
        raise SystemExit(f"{arguments.manifest}: only {len(short)} of the recordings are shorter than 7 s")
    made: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        wanted: list[list[tuple[str, float]]] = []
        files: list[Path] = []
        for number in range(arguments.recordings):
            audio, words = joined(chance.sample(short, arguments.each), chance)
            path = Path(scratch) / f"{number}.wav"
            soundfile.write(path, audio, RATE)
            wanted.append(words)
            files.append(path)
        read = transcribed(arguments.model, files)
    for words, said in zip(wanted, read, strict=True):
        made += errors(words, said["timestamps"]["words"])
    if not made:
        raise SystemExit("not one of the first words was read rightly")
    late = statistics.median(made)
    off = sorted(abs(item) for item in made)
    print(
        f"{len(made)} words: median error {1000 * statistics.median(off):.0f} ms, "
        f"nine of ten within {1000 * off[int(0.9 * len(off))]:.0f} ms, median {1000 * late:+.0f} ms"
    )


if __name__ == "__main__":
    main()
