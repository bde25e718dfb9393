"""Decodes, resamples and filters what manifests name, and writes shards."""

import argparse
import dataclasses
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr  # type: ignore[import-untyped]

from .manifests import Utterance, read_manifest
from .selection import trainable
from .shards import Entry, Samples, write_shard
from .texts import names, with_names

RATE = 16_000


def decoded(path: Path) -> Samples:
    """16 kHz mono of any file that libsndfile reads, its peak at 0.6."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE)
    peak = float(np.abs(mono).max(initial=1e-6))
    return (mono * (0.6 / peak) * 32767).astype(np.int16)


def held_out(utterances: Iterable[Utterance], share: float) -> set[str]:
    """Voices for watching the training, `share` of each corpus that has ten or more; always the same ones."""
    voices: dict[str, set[str]] = {}
    for item in utterances:
        voices.setdefault(item.corpus, set()).add(item.voice)
    chosen: set[str] = set()
    for corpus, found in sorted(voices.items()):
        if share and len(found) >= 10:
            number = max(1, round(len(found) * share))
            chosen.update(random.Random(corpus).sample(sorted(found), number))  # noqa: S311
    return chosen


def _entries(utterances: list[Utterance], processes: int) -> Iterator[tuple[Samples, Entry]]:
    files = [item.file for item in utterances]
    if processes == 1:
        audios: Iterable[Samples] = map(decoded, files)
        yield from _paired(audios, utterances)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from _paired(pool.map(decoded, files, chunksize=16), utterances)


def _paired(audios: Iterable[Samples], utterances: list[Utterance]) -> Iterator[tuple[Samples, Entry]]:
    for audio, item in zip(audios, utterances, strict=True):
        yield audio, Entry(len(audio), item.corpus, item.speaker, item.text)


def main() -> None:
    """``python -m training.prepare``: manifests to shards; the voices held out go to ``dev.*``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("manifest", type=Path, nargs="+", help="file.tsv, its audio in file/ or beside it")
    parser.add_argument("--forbidden", type=Path, nargs="*", default=[], help="test lists")
    parser.add_argument("--held-out", type=float, default=0.04, help="share of the voices for watching")
    parser.add_argument("--names-from", type=Path, help="sentences, one a line, that know which words have a capital")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shards = {"dev", *(path.stem for path in arguments.manifest)}
    if len(shards) <= len(arguments.manifest):
        parser.error("the shard of a manifest has its name: names must differ, and none be dev")
    arguments.out.mkdir(parents=True, exist_ok=True)
    forbidden = [item for path in arguments.forbidden for item in read_manifest(path)]
    capitals = names(arguments.names_from.read_text(encoding="utf-8").splitlines()) if arguments.names_from else {}
    watched: list[Utterance] = []
    for path in arguments.manifest:
        beside = path.with_suffix("")
        found = read_manifest(path, audio=beside if beside.is_dir() else path.parent)
        usable = [
            dataclasses.replace(item, text=with_names(item.text, capitals))
            for item in trainable(found, forbidden=forbidden)
        ]
        for item in usable:
            if not item.file.is_file():
                raise SystemExit(f"{path}: there is no {item.file}")
        away = held_out(usable, arguments.held_out)
        watched.extend(item for item in usable if item.voice in away)
        kept = [item for item in usable if item.voice not in away]
        hours = write_shard(arguments.out / path.stem, _entries(kept, arguments.processes))
        print(f"{path.stem}: {len(kept)} of {len(found)}, {hours:.2f} h")
    if watched:
        hours = write_shard(arguments.out / "dev", _entries(watched, arguments.processes))
        print(f"dev: {len(watched)}, {hours:.2f} h")


if __name__ == "__main__":
    main()
