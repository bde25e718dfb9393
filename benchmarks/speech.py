"""What the measurements read: recordings, what is said in them, and the distance of two texts."""

import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000

Number = TypeVar("Number", np.int16, np.float32)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and what is said in it, if that is known."""

    name: str
    samples: NDArray[np.int16]
    text: str | None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE_HZ

    @property
    def wav(self) -> bytes:
        """The recording as a WAV file."""
        return self.header(2 * len(self.samples)) + self.samples.tobytes()

    @staticmethod
    def header(size: int) -> bytes:
        """What stands before so many bytes of samples in a WAV file."""
        header = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
        header += RATE_HZ.to_bytes(4, "little") + (2 * RATE_HZ).to_bytes(4, "little") + b"\2\0\x10\0data"
        return header + size.to_bytes(4, "little")


def recordings(directory: Path | None) -> list[Recording]:
    """The 16 kHz mono WAV files of `directory`, with the texts of its ``*.tsv`` (file in the first column, text in the last)."""
    directory = directory or Path(__file__).parents[1] / "src" / "assets" / "samples"
    texts: dict[str, str] = {}
    for table in directory.glob("*.tsv"):
        for line in table.read_text(encoding="utf-8").splitlines():
            columns = line.split("\t")
            texts[columns[0]] = columns[-1]
    return [Recording(path.name, _samples(path), texts.get(path.name)) for path in sorted(directory.glob("*.wav"))]


def joined(parts: Sequence[Recording], *, at_least_s: float = 0) -> Recording:
    """The parts one after the other, over and over until there is enough."""
    pieces = list(parts)
    while sum(part.duration_s for part in pieces) < at_least_s:
        pieces += parts
    return Recording("joined", np.concatenate([piece.samples for piece in pieces]), None)


def clip(samples: NDArray[Number], number: int, seconds: float) -> NDArray[Number]:
    """A stretch of `samples`; each `number` has another one, always the same.

    Raises:
        SystemExit: There are fewer samples than that.
    """
    length = int(seconds * RATE_HZ)
    if len(samples) < length:
        raise SystemExit(f"the recordings are shorter than a clip of {seconds:g} s")
    start = number * 7919 % (len(samples) - length + 1)
    return samples[start : start + length]


def _samples(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE_HZ, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz mono 16-bit")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def words(text: str) -> list[str]:
    """Words without case and punctuation, as word error rates count them."""
    return re.sub(r"[^a-z0-9' ]+", " ", text.lower()).split()


def distance(reference: Sequence[str], other: Sequence[str]) -> int:
    """Least number of words to change, insert or delete."""
    row = list(range(len(other) + 1))
    for i, expected in enumerate(reference, 1):
        above, row[0] = row[0], i
        for j, found in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (expected != found))
    return row[-1]
