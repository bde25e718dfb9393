"""How well a model reads voices held out, by its CTC head: quick enough to be asked every other minute."""

from collections import Counter

import numpy as np
import torch

from .batches import Corpus
from .features import LogMel
from .network import Transducer
from .vocabulary import Vocabulary


@torch.no_grad()
def words_wrong(
    model: Transducer, held: Corpus, vocabulary: Vocabulary, features: LogMel
) -> tuple[Counter[str], Counter[str]]:
    """Words read wrongly, and all words, of each corpus; `model` is in evaluation mode."""
    wrong: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for start in range(0, len(held.texts), 32):
        chosen = list(range(start, min(start + 32, len(held.texts))))
        batch = held.gather([[index] for index in chosen], [[0.0]] * len(chosen), np.zeros(len(chosen)))
        mel, frames = features(batch.signal, batch.samples, magnitude=False)
        encoded, lengths, _ = model.encoder(mel, frames)
        best = model.ctc(encoded).argmax(-1)
        for row, index in enumerate(chosen):
            path = torch.unique_consecutive(best[row, : int(lengths[row])]).tolist()
            text = vocabulary.decode([piece for piece in path if piece != model.shape.vocabulary])
            reference = _words(held.texts[index])
            wrong[held.corpora[index]] += _distance(_words(text), reference)
            words[held.corpora[index]] += len(reference)
    return wrong, words


def _words(text: str) -> list[str]:
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter in " '").split()


def _distance(first: list[str], second: list[str]) -> int:
    row = list(range(len(second) + 1))
    for i, word in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
