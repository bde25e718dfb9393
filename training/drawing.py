"""Batches drawn ahead: the next one while the GPU is given this one."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from .batches import Batch, Corpus
from .schedule import LENGTHS_S, ODDS


class Drawing:
    """Draws batches of a corpus in a thread of its own."""

    def __init__(self, corpus: Corpus, batch_s: float, seed: Sequence[int], device: torch.device) -> None:
        """Draw `batch_s` seconds of audio at a time, always the same ones for a seed."""
        self._corpus, self._batch_s = corpus, batch_s
        self._chance = np.random.default_rng(seed)
        self._ahead: Future[Batch] | None = None
        # A thread has a current device of its own.
        begin = (lambda: torch.cuda.set_device(device)) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, initializer=begin)

    def batch(self, lengths: int) -> Batch:
        """A batch whose longest item is one of the first so many `LENGTHS_S`."""
        ready = self._ahead or self._thread.submit(self._drawn, lengths)
        batch = ready.result()
        self._ahead = self._thread.submit(self._drawn, lengths)
        return batch

    def changed(self, change: Callable[[], object]) -> None:
        """Change the corpus, of which nothing may be drawn meanwhile; what was drawn before is forgotten."""
        if self._ahead is not None:
            self._ahead.result()
            self._ahead = None
        change()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _drawn(self, lengths: int) -> Batch:
        odds = np.array(ODDS[:lengths])
        seconds = float(self._chance.choice(LENGTHS_S[:lengths], p=odds / odds.sum()))
        return self._corpus.draw(self._chance, seconds, self._batch_s)
