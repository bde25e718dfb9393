"""Audio as training reads it: one array of 16-bit samples beside one table, so that a GPU can hold it whole."""

import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One utterance of a shard."""

    samples: int
    corpus: str
    speaker: str
    text: str
    bounds: tuple[int, ...] = ()
    """For each word the sample before which it does not begin, rising; empty where nothing is known."""


def write_shard(path: Path, items: Iterable[tuple[Samples, Entry]]) -> float:
    """Write `path`.npy and `path`.tsv, the table last: a shard with a table is complete.

    Args:
        path: Without suffix.
        items: 16 kHz mono, as long as the entry says.

    Returns:
        Hours of audio.
    """
    pieces: list[Samples] = []
    entries: list[Entry] = []
    for samples, entry in items:
        pieces.append(samples)
        entries.append(entry)
    np.save(path.with_suffix(".npy"), np.concatenate(pieces) if pieces else np.zeros(0, np.int16))
    half = path.with_suffix(".part")
    with half.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerows(
            [entry.samples, entry.corpus, entry.speaker, entry.text, " ".join(map(str, entry.bounds))]
            for entry in entries
        )
    half.rename(path.with_suffix(".tsv"))
    return sum(entry.samples for entry in entries) / 16_000 / 3600


def read_shard(path: Path) -> tuple[Samples, list[Entry]]:
    """What `write_shard` wrote; `path` is that of the table.

    Raises:
        ValueError: The table is none of a shard, or not as long as the audio.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            entries = [
                Entry(int(samples), corpus, speaker, text, tuple(map(int, bounds.split())))
                for samples, corpus, speaker, text, bounds in rows
            ]
        except ValueError as error:
            raise ValueError(f"{path}, line {rows.line_num}: not of a shard: {error}") from error
    audio: Samples = np.load(path.with_suffix(".npy"))
    if len(audio) != sum(entry.samples for entry in entries):
        raise ValueError(f"{path}: {len(audio)} samples of audio, but the table says otherwise")
    return audio, entries
