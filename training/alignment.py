"""Which phonemes begin which words: espeak-ng writes "of the" as one word, and says not where."""

import re
from collections.abc import Iterator

_WORD = re.compile(r"\S+")
_MARKS = tuple(",.?!")


def beginnings(text: str, phonemes: str) -> list[int | None]:
    """For each word of a text the place of its first phoneme, or ``None`` where that is not sure.

    Text and phonemes are compared clause by clause, by their punctuation. Where a clause has as many words in both,
    its words are taken to be the same ones; otherwise only the first is sure.
    """
    written, spoken = list(_clauses(text)), list(_clauses(phonemes))
    if len(written) != len(spoken):
        return [0, *[None] * (sum(map(len, written)) - 1)] if written else []
    places: list[int | None] = []
    for words, said in zip(written, spoken, strict=True):
        places += said if len(words) == len(said) else [said[0], *[None] * (len(words) - 1)]
    return places


def _clauses(text: str) -> Iterator[list[int]]:
    """The places where the words of each clause begin."""
    clause: list[int] = []
    for word in _WORD.finditer(text):
        clause.append(word.start())
        if word[0].endswith(_MARKS):
            yield clause
            clause = []
    if clause:
        yield clause
