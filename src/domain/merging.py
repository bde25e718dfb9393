"""Joining the words of neighbouring windows that have read the same stretch of audio."""

from collections.abc import Sequence

from .transcript import Word

_SAME_WORD_S = 1.0
"""Two readings of one word begin within this time of each other."""


def join_at_seam(left: Sequence[Word], right: Sequence[Word], *, overlap_s: tuple[float, float]) -> tuple[Word, ...]:
    """The words of both, with those of the overlap once; whole words only, in the order in which they were read.

    Where the two agree on a word, the text passes from `left` to `right` at the agreement nearest the middle
    of the overlap: there both had context on either side. Where they agree on none, it passes at the middle.

    Args:
        left: Words so far, in order.
        right: Words of the next window, in order; times count from the same zero.
        overlap_s: ``(begin, end)`` of the audio that both have read.
    """
    begin_s, end_s = overlap_s
    middle_s = (begin_s + end_s) / 2
    if begin_s >= end_s:
        return (*left, *right)
    first = next((i for i, word in enumerate(left) if word.end_s > begin_s), len(left))
    last = next((j for j, word in enumerate(right) if word.start_s >= end_s), len(right))
    agreements = _agreements(left[first:], right[:last])
    if agreements:
        i, j = min(agreements, key=lambda pair: abs(_middle_s(right[pair[1]]) - middle_s))
        return (*left[: first + i], *right[j:])
    return (
        *(word for word in left if _middle_s(word) < middle_s),
        *(word for word in right if _middle_s(word) >= middle_s),
    )


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _agreements(left: Sequence[Word], right: Sequence[Word]) -> list[tuple[int, int]]:
    """Pairs of indices of a longest common subsequence."""
    rows, columns = len(left), len(right)
    longest = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            longest[i][j] = (
                longest[i + 1][j + 1] + 1 if _same(left[i], right[j]) else max(longest[i + 1][j], longest[i][j + 1])
            )
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < rows and j < columns:
        if _same(left[i], right[j]):
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _same(a: Word, b: Word) -> bool:
    return abs(a.start_s - b.start_s) < _SAME_WORD_S and _bare(a) == _bare(b)


def _bare(word: Word) -> str:
    return "".join(c for c in word.text.casefold() if c.isalnum()) or word.text
