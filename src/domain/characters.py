"""When each character of a word is spoken, as far as a model of sub-words can tell."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .transcript import Word


@dataclass(frozen=True, slots=True)
class Character:
    """One visible character of a word; half-open interval ``[start_s, end_s)``."""

    text: str
    start_s: float
    end_s: float


def characters_of(words: Iterable[Word]) -> tuple[Character, ...]:
    """The characters of all words, in order; each token's interval is divided evenly among its characters.

    They stay inside their word: of a token that the word's settled times cut short, only what is left is divided.
    """
    return tuple(character for word in words for character in _of_word(word))


def _of_word(word: Word) -> Iterator[Character]:
    begin_s = word.start_s
    for token in word.tokens:
        characters = "".join(token.text.split())
        begin_s = min(max(token.start_s, begin_s), word.end_s)
        end_s = min(max(token.end_s, begin_s), word.end_s)
        each_s = (end_s - begin_s) / max(len(characters), 1)
        for at, text in enumerate(characters):
            yield Character(text, begin_s + at * each_s, begin_s + (at + 1) * each_s)
        begin_s = end_s
