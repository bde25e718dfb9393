"""Which tokens spell a phrase that is to be favoured, and by how much each brings a reading nearer to it.

Pieces that begin alike are asked about together, and what one state taught serves the next: all but a few pieces lead
away from every phrase, whatever the state.
"""

import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .phrases import PhraseAutomaton, PhraseState

Floats: TypeAlias = NDArray[np.float32]
Weights: TypeAlias = dict[str, float]

_MOST_STATES = 256
"""States whose tables are kept for a set of phrases; each is as long as the vocabulary."""
_MOST_SETS = 4


class Spelling:
    """The pieces of a vocabulary as a tree of their characters."""

    def __init__(self, pieces: Sequence[str]) -> None:
        """Take the pieces in the order of the vocabulary, spaces written as spaces."""
        self.pieces = tuple(pieces)
        order = sorted(range(len(self.pieces)), key=self.pieces.__getitem__)
        self.order = np.array(order, dtype=np.intp)
        self.root = _Node([self.pieces[token] for token in order], begin=0, end=len(order), depth=0)


class _Node:
    """The pieces ``[begin, end)`` of the sorted vocabulary, which agree in their first `depth` characters.

    The first `whole` of them have no more; the others are below the children.
    """

    __slots__ = ("begin", "children", "end", "whole")

    def __init__(self, ordered: Sequence[str], *, begin: int, end: int, depth: int) -> None:
        self.begin, self.end = begin, end
        at = begin
        while at < end and len(ordered[at]) == depth:
            at += 1
        self.whole = at - begin
        self.children: dict[str, _Node] = {}
        while at < end:
            char, first = ordered[at][depth], at
            while at < end and ordered[at][depth] == char:
                at += 1
            self.children[char] = _Node(ordered, begin=first, end=at, depth=depth + 1)


class Booster:
    """What a set of phrases is worth to a reading, token by token."""

    def __init__(self, weights: Weights, spelling: Spelling) -> None:
        """Build the machine.

        Args:
            weights: What each phrase is worth once it is complete; letters as they are written.
            spelling: Of the model's vocabulary.
        """
        self._chars = PhraseAutomaton(weights)
        self._spelling = spelling
        self._tables: dict[PhraseState, Floats] = {}
        self._below: dict[tuple[_Node, PhraseState], Floats] = {}
        self.start = self._chars.start

    def table(self, state: PhraseState) -> Floats:
        """What each token would add, shape ``(vocabulary,)``."""
        table = self._tables.get(state)
        if table is None:
            if len(self._tables) >= _MOST_STATES:
                self._tables.clear()
                self._below.clear()
            table = np.empty(len(self._spelling.order), np.float32)
            table[self._spelling.order] = self._worth(self._spelling.root, state) - self._chars.hope(state)
            self._tables[state] = table
        return table

    def advance(self, state: PhraseState, token: int) -> tuple[PhraseState, float]:
        """The state after `token`, and what the token adds."""
        after, worth = state, 0.0
        for char in self._spelling.pieces[token]:
            after, more = self._chars.step(after, char)
            worth += more
        return after, self._chars.hope(after) - self._chars.hope(state) + worth

    def settle(self, state: PhraseState) -> float:
        """What the end of the text adds: the hope of phrases that were begun is taken back."""
        return self._chars.at_end(state) - self._chars.hope(state)

    def _worth(self, node: _Node, state: PhraseState) -> Floats:
        """What the rest of each piece below `node` adds, and the hope that it leaves."""
        known = self._below.get((node, state))
        if known is None:
            known = np.empty(node.end - node.begin, np.float32)
            known[: node.whole] = self._chars.hope(state)
            for char, child in node.children.items():
                after, weight = self._chars.step(state, char)
                known[child.begin - node.begin : child.end - node.begin] = self._worth(child, after) + weight
            self._below[node, state] = known
        return known


class Boosters:
    """The boosters of the sets of phrases that were asked for last."""

    def __init__(self, pieces: Sequence[str]) -> None:
        """Take the vocabulary's pieces, spaces written as spaces."""
        self._spelling = Spelling(pieces)
        self._kept: OrderedDict[tuple[tuple[str, float], ...], Booster] = OrderedDict()

    def of(self, weights: Weights) -> Booster:
        """The booster of these phrases, from before or new."""
        key = tuple(weights.items())
        booster = self._kept.pop(key, None) or Booster(weights, self._spelling)
        self._kept[key] = booster
        if len(self._kept) > _MOST_SETS:
            self._kept.popitem(last=False)
        return booster


def forms_of(phrases: Iterable[str]) -> list[str]:
    """Every way to write the beginnings of the phrases' words that a user would take for the same.

    As it stands; as at the beginning of a sentence; as a name or title; and small, as within one.
    """
    forms: dict[str, None] = {}
    for phrase in phrases:
        parts = unicodedata.normalize("NFC", phrase).split()
        small = [part[0].lower() + part[1:] for part in parts]
        large = [part[0].upper() + part[1:] for part in parts]
        for form in (parts, [*large[:1], *parts[1:]], large, small, [*large[:1], *small[1:]]):
            if form:
                forms[" ".join(form)] = None
    return list(forms)
