"""The data of training on the GPU, and batches cut from it there."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .features import RATE
from .shards import read_shard
from .vocabulary import Vocabulary

END_S = 0.5
"""Most seconds of silence at the end of an item."""
_DRAWN = 32
"""So many utterances are drawn for an item: most of them do not fit."""
_MISSES = 12
"""After so many that did not fit an item is taken for full."""
_KNOWN = 8
"""A voice of fewer utterances would repeat itself if it spoke a whole item."""
_SILENCE_S = 60
"""Longest pause that there can be within an item, or behind it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Items of one call."""

    signal: Tensor
    """``(batch, samples)``, float32 within -1 ... 1, zeros behind the end of each item."""
    samples: Tensor
    """Of each item, on the CPU: what follows from them must not wait for the GPU."""
    labels: Tensor
    """``(batch, labels)``, zeros behind the end."""
    lengths: Tensor
    """Labels of each item."""
    lengths_here: Tensor
    """The same on the CPU, for what would wait for the GPU to learn them."""
    bounds: Tensor
    """``(batch, labels)``: the sample before which a label's word does not begin."""


def items_of(seconds: float, budget_s: float) -> int:
    """How many items of so many seconds a batch has."""
    return max(2, int(budget_s / seconds))


class Corpus:
    """All shards of a directory; those that appear later are found by `refresh`."""

    def __init__(
        self, directory: Path, vocabulary: Vocabulary, device: torch.device, weights: dict[str, float] | None = None
    ) -> None:
        """Prepare, and read nothing yet.

        Args:
            directory: With shards.
            vocabulary: To encode texts with.
            device: Where audio is kept.
            weights: How much oftener than others the utterances of a corpus are drawn.
        """
        self._directory, self._vocabulary, self._device = directory, vocabulary, device
        self._weights = weights or {}
        self._seen: set[Path] = set()
        self._audio: list[Tensor] = []
        self._silence = torch.zeros(_SILENCE_S * RATE, dtype=torch.int16, device=device)
        self._place: list[tuple[int, int]] = []
        self.labels: list[NDArray[np.int64]] = []
        self.texts: list[str] = []
        self.corpora: list[str] = []
        self._voices: dict[tuple[str, str], list[int]] = {}
        self._mates: list[list[int]] = []
        self._bounds: list[NDArray[np.float32]] = []
        self.samples: NDArray[np.int64] = np.zeros(0, np.int64)
        self._sum: NDArray[np.float64] = np.zeros(0)

    @property
    def hours(self) -> float:
        """Of all audio."""
        return float(self.samples.sum()) / RATE / 3600

    def refresh(self, only: str | None = None) -> bool:
        """Read shards that are new; whether there were any.

        Args:
            only: The stem of the one shard to read; by default all but ``dev``.
        """
        tables = sorted(self._directory.glob("*.tsv"))
        fresh = [
            path for path in tables if path not in self._seen and (path.stem == only if only else path.stem != "dev")
        ]
        samples = list(self.samples)
        for path in fresh:
            audio, entries = read_shard(path)
            self._seen.add(path)
            at = 0
            for entry in entries:
                labels = self._vocabulary.encode(entry.text)
                self._place.append((len(self._audio), at))
                self.labels.append(np.array(labels, np.int64))
                self._bounds.append(np.array(self._vocabulary.spread(labels, entry.bounds), np.float32))
                self.texts.append(entry.text)
                self.corpora.append(entry.corpus)
                mates = self._voices.setdefault((entry.corpus, entry.speaker), [])
                mates.append(len(self._mates))
                self._mates.append(mates)
                samples.append(entry.samples)
                at += entry.samples
            self._audio.append(torch.from_numpy(audio).to(self._device))
        self.samples = np.array(samples, np.int64)
        self.weigh(self._weights)
        return bool(fresh)

    def weigh(self, weights: dict[str, float]) -> None:
        """Draw the utterances of each corpus so much oftener than others from now on."""
        self._weights = weights
        self._sum = np.cumsum([weights.get(corpus, 1.0) for corpus in self.corpora])

    def gather(self, items: list[list[int]], gaps: list[list[float]], silences: NDArray[np.float64]) -> Batch:
        """Join utterances to items.

        Args:
            items: The utterances of each item, by number; none is silence.
            gaps: Seconds of silence before each utterance of each item.
            silences: Seconds of silence at the end of each item.
        """
        numbers = [sum(len(self.labels[index]) for index in item) for item in items]
        most = max(1, *numbers)
        labels = np.zeros((len(items), most), np.int64)
        bounds = np.zeros((len(items), most), np.float32)
        rows: list[list[Tensor]] = []
        lengths: list[int] = []
        for row, (item, between, silence) in enumerate(zip(items, gaps, silences, strict=True)):
            pieces: list[Tensor] = []
            at = written = 0
            for index, gap in zip(item, between, strict=True):
                pause = int(gap * RATE)
                shard, start = self._place[index]
                length = int(self.samples[index])
                pieces += [self._silence[:pause], self._audio[shard][start : start + length]]
                at += pause
                until = written + len(self.labels[index])
                labels[row, written:until] = self.labels[index]
                bounds[row, written:until] = self._bounds[index] + at
                at, written = at + length, until
            rows.append(pieces)
            lengths.append(max(at + int(silence * RATE), 1600))
            pieces.append(self._silence[: lengths[-1] - at])
        longest = max(lengths)
        for pieces, length in zip(rows, lengths, strict=True):
            pieces.append(self._silence[: longest - length])
        # One call: hundreds of small copies take longer to ask for than to do.
        signal = torch.cat([piece for pieces in rows for piece in pieces]).view(len(items), longest)
        return Batch(
            signal / 32768,
            torch.tensor(lengths),
            self._sent(torch.from_numpy(labels)),
            self._sent(torch.tensor(numbers)),
            torch.tensor(numbers),
            self._sent(torch.from_numpy(bounds)),
        )

    def _sent(self, values: Tensor) -> Tensor:
        # From pageable memory a copy of this size waits for all that the GPU has yet to do.
        return values.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else values

    def draw(
        self,
        chance: np.random.Generator,
        seconds: float,
        budget_s: float,
        *,
        silent: float = 0.02,
        one_voice: float = 0.5,
    ) -> Batch:
        """A batch of items, each of utterances joined until they are about so long.

        Args:
            chance: Where numbers come from.
            seconds: Longest item, as recorded.
            budget_s: Seconds of audio of the whole batch.
            silent: Share of the items without speech.
            one_voice: Share of the items that one voice speaks, as most recordings are; in the others each utterance
                has a voice of its own.
        """
        count = items_of(seconds, budget_s)
        items: list[list[int]] = []
        gaps: list[list[float]] = []
        limit = seconds * RATE
        numbers = chance.random((count, _DRAWN))
        drawn = np.searchsorted(self._sum, numbers * self._sum[-1])
        for candidates, places in zip(drawn.tolist(), numbers, strict=True):
            item: list[int] = []
            between: list[float] = []
            if chance.random() >= silent:
                used = 0.0
                misses = 0
                alone = chance.random() < one_voice
                for number in range(_DRAWN):
                    index = candidates[number]
                    if item and alone and len(mates := self._mates[item[0]]) >= _KNOWN:
                        index = mates[int(places[number] * len(mates))]
                    length = float(self.samples[index])
                    gap = float(chance.uniform(0.05, 0.7) if item else chance.uniform(0.0, 0.4)) * RATE
                    if used + gap + length > limit:
                        misses += 1
                        if item and misses > _MISSES:
                            break
                        continue
                    item.append(index)
                    between.append(gap / RATE)
                    used += gap + length
            items.append(item)
            gaps.append(between)
        silences = chance.uniform(0.0, END_S, len(items)) + np.array([0.0 if item else seconds * 0.8 for item in items])
        return self.gather(items, gaps, silences)
