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
        self._place: list[tuple[int, int]] = []
        self.labels: list[list[int]] = []
        self.texts: list[str] = []
        self.samples: NDArray[np.int64] = np.zeros(0, np.int64)
        self._weight: list[float] = []
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
                self.labels.append(labels)
                self.texts.append(entry.text)
                self._weight.append(self._weights.get(entry.corpus, 1.0))
                samples.append(entry.samples)
                at += entry.samples
            self._audio.append(torch.from_numpy(audio).to(self._device))
        self.samples = np.array(samples, np.int64)
        self._sum = np.cumsum(self._weight)
        return bool(fresh)

    def gather(self, items: list[list[int]], gaps: list[list[float]], silences: NDArray[np.float64]) -> Batch:
        """Join utterances to items.

        Args:
            items: The utterances of each item, by number; none is silence.
            gaps: Seconds of silence before each utterance of each item.
            silences: Seconds of silence at the end of each item.
        """
        joined = [[label for index in item for label in self.labels[index]] for item in items]
        ends = [
            sum(int(self.samples[index]) + int(gap * RATE) for index, gap in zip(item, between, strict=True))
            + int(silence * RATE)
            for item, between, silence in zip(items, gaps, silences, strict=True)
        ]
        signal = torch.zeros(len(items), max(*ends, 1600), device=self._device)
        for row, (item, between) in enumerate(zip(items, gaps, strict=True)):
            at = 0
            for index, gap in zip(item, between, strict=True):
                at += int(gap * RATE)
                shard, start = self._place[index]
                length = int(self.samples[index])
                signal[row, at : at + length] = self._audio[shard][start : start + length]
                at += length
        labels = torch.zeros(len(items), max(1, *(len(item) for item in joined)), dtype=torch.int64)
        for row, item in enumerate(joined):
            labels[row, : len(item)] = torch.tensor(item, dtype=torch.int64)
        return Batch(
            signal / 32768,
            torch.tensor([max(end, 1600) for end in ends]),
            labels.to(self._device, non_blocking=True),
            torch.tensor([len(item) for item in joined], device=self._device),
        )

    def draw(self, chance: np.random.Generator, seconds: float, budget_s: float, *, silent: float = 0.01) -> Batch:
        """A batch of items, each of utterances joined until they are about so long.

        Args:
            chance: Where numbers come from.
            seconds: Longest item, as recorded.
            budget_s: Seconds of audio of the whole batch.
            silent: Share of the items without speech.
        """
        count = max(2, int(budget_s / seconds))
        items: list[list[int]] = []
        gaps: list[list[float]] = []
        limit = seconds * RATE
        numbers = chance.random((count, 24)) * self._sum[-1]
        drawn = np.searchsorted(self._sum, numbers)
        for candidates in drawn:
            item: list[int] = []
            between: list[float] = []
            if chance.random() >= silent:
                used = 0.0
                misses = 0
                for index in candidates:
                    length = float(self.samples[index])
                    gap = float(chance.uniform(0.05, 0.7) if item else chance.uniform(0.0, 0.4)) * RATE
                    if used + gap + length > limit:
                        misses += 1
                        if item and misses > 2:
                            break
                        continue
                    item.append(int(index))
                    between.append(gap / RATE)
                    used += gap + length
            items.append(item)
            gaps.append(between)
        silences = chance.uniform(0.0, 0.5, len(items)) + np.array([0.0 if item else seconds * 0.8 for item in items])
        return self.gather(items, gaps, silences)
