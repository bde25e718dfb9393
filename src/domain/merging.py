"""Joining the words of neighbouring windows that have read the same stretch of audio."""

from collections.abc import Sequence

from .transcript import Word

_SAME_WORD_S = 0.5
"""Two readings of one word begin within this time of each other."""


def join_at_seam(left: Sequence[Word], right: Sequence[Word], *, overlap_s: tuple[float, float]) -> tuple[Word, ...]:
    """The words of both, with those of the overlap once; whole words only, in the order in which they were read.

    Where the two agree on a word, the text passes from `left` to `right` at the agreement nearest the middle
    of the overlap: there both had context on either side. Where they agree on none, it passes near the middle,
    so that a word that only one of them has is kept, and one that each has read in its own way is not doubled.

    Args:
        left: Words so far, in order.
        right: Words of the next window, in order; times count from the same zero.
        overlap_s: ``(begin, end)`` of the audio that both have read.
    """
    begin_s, end_s = overlap_s
    if begin_s >= end_s:
        return (*left, *right)
    middle_s = (begin_s + end_s) / 2
    first = finalized_count(left, overlap_s=overlap_s)
    last = next((j for j, word in enumerate(right) if word.start_s >= end_s + _SAME_WORD_S), len(right))
    agreements = _agreements(left[first:], right[:last])
    if agreements:
        i, j = min(agreements, key=lambda pair: abs(_middle_s(right[pair[1]]) - middle_s))
        return (*left[: first + i], *right[j:])
    i = _first_after(left, middle_s)
    j = _first_after(right, min(left[i - 1].end_s, end_s)) if i else 0
    i += _first_after(left[i:], right[j].start_s) if j < len(right) else len(left)
    return (*left[:i], *right[j:])


def finalized_count(words: Sequence[Word], *, overlap_s: tuple[float, float]) -> int:
    """How many of `words`, from the first, stay as they are, whatever the next window reads in the overlap.

    Args:
        words: Words so far, in order.
        overlap_s: ``(begin, end)`` of the audio that the next window will read again; nothing if they are equal.
    """
    begin_s, end_s = overlap_s
    if begin_s >= end_s:
        return len(words)
    return next((i for i, word in enumerate(words) if word.end_s > begin_s - _SAME_WORD_S), len(words))


def _first_after(words: Sequence[Word], at_s: float) -> int:
    """Index of the first word whose middle lies at `at_s` or later; their number if there is none."""
    return next((i for i, word in enumerate(words) if _middle_s(word) >= at_s), len(words))


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _agreements(left: Sequence[Word], right: Sequence[Word]) -> list[tuple[int, int]]:
    """Pairs of indices of the common subsequence whose words are closest in time."""
    rows, columns = len(left), len(right)
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            with_both = best[i + 1][j + 1] + _likeness(left[i], right[j])
            best[i][j] = max(with_both, best[i + 1][j], best[i][j + 1])
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < rows and j < columns:
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return pairs


def _likeness(a: Word, b: Word) -> float:
    """In [0, 1]. Squared: of "very very very" two pairs that are off by one must not outweigh one that is not."""
    apart_s = abs(a.start_s - b.start_s)
    return (1 - apart_s / _SAME_WORD_S) ** 2 if apart_s < _SAME_WORD_S and _bare(a) == _bare(b) else 0.0


def _bare(word: Word) -> str:
    return "".join(c for c in word.text.casefold() if c.isalnum()) or word.text
