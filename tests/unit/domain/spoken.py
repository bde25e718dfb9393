"""Tokens and words made in one line."""

from collections.abc import Iterable, Sequence

from parakeet_service.domain.transcript import Token, Word


def token(text: str, start_s: float = 0.0, end_s: float | None = None, *, confidence: float = 1.0) -> Token:
    return Token(0, text, start_s, start_s if end_s is None else end_s, confidence)


def pieces(*texts: str) -> list[Token]:
    """Tokens of a tenth of a second each, one after the other."""
    return [token(text, at / 10, (at + 1) / 10) for at, text in enumerate(texts)]


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text, start_s, end_s, 1.0, (token(f" {text}", start_s, end_s),))


def words(*spoken: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(word(*one) for one in spoken)


def texts(spoken: Iterable[Word]) -> list[str]:
    return [one.text for one in spoken]


def times(spoken: Sequence[Word]) -> list[tuple[float, float]]:
    return [(one.start_s, one.end_s) for one in spoken]
