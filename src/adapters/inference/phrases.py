"""Which phrases a text is about to write, and what that is worth: an automaton over characters.

Source: the machine ``words`` of boost.py in parakeet-mlx 0.7 (Apache-2.0), the idea only: its worths are the oracle.
"""

import unicodedata
from collections.abc import Mapping
from typing import TypeAlias

PhraseState: TypeAlias = tuple[frozenset[int], bool]
"""Which phrases are under way, as nodes of their tree, and whether a word is."""


class PhraseAutomaton:
    """Phrases as a tree of characters; they begin and end where words do.

    A phrase pays its worth once it is complete and its last word has ended. Until then a text has the hope of it: as
    much of the worth as it has written of the phrase.
    """

    start: PhraseState = (frozenset(), False)

    def __init__(self, worths: Mapping[str, float]) -> None:
        """Build the tree.

        Raises:
            ValueError: A phrase is empty.
        """
        self._children: list[dict[str, int]] = [{}]
        self._worth = [0.0]
        self._hope = [0.0]
        for phrase, worth in worths.items():
            if not phrase:
                raise ValueError("a phrase is empty")
            self._worth[self._grow(phrase, worth)] = worth

    def _grow(self, phrase: str, worth: float) -> int:
        """The node at the end of a phrase, made if need be."""
        node = 0
        for count, char in enumerate(phrase, start=1):
            following = self._children[node].get(char)
            if following is None:
                following = self._children[node][char] = len(self._children)
                self._children.append({})
                self._worth.append(0.0)
                self._hope.append(0.0)
            node = following
            self._hope[node] = max(self._hope[node], worth * count / len(phrase))
        return node

    def step(self, state: PhraseState, char: str) -> tuple[PhraseState, float]:
        """The state after one more character, and what the phrases are worth that ended before it."""
        nodes, in_word = state
        continues = _is_of_word(char)
        if in_word and continues:
            worth, from_nodes = 0.0, nodes
        else:
            worth, from_nodes = self.at_end(state), nodes | {0}
        reached = (self._children[node].get(char) for node in from_nodes)
        return (frozenset(node for node in reached if node is not None), continues), worth

    def hope(self, state: PhraseState) -> float:
        """What the best of the phrases under way has brought so far."""
        return max((self._hope[node] for node in state[0]), default=0.0)

    def at_end(self, state: PhraseState) -> float:
        """What the phrases are worth that are complete if nothing of their last word follows."""
        return sum((self._worth[node] for node in state[0]), 0.0)


def _is_of_word(char: str) -> bool:
    """Letters, marks and digits, but for those of scripts that write no spaces."""
    return unicodedata.category(char)[0] in "LMN" and unicodedata.east_asian_width(char) not in "WFH"
