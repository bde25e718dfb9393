"""What was said and when: tokens, words, segments. Times are seconds from the recording's first sample."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One sub-word as the model emitted it; half-open interval ``[start_s, end_s)``.

    Attributes:
        id: Index in the model's vocabulary.
        text: The piece as it reads; a leading space begins a new word. Never a control token.
        confidence: In [0, 1].
    """

    id: int
    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Word:
    """A whole word with the punctuation that clings to it, which does not stretch its interval."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of words that reads as a sentence, or as much of one as was said without a pause."""

    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of one recording of `duration_s` seconds."""

    words: tuple[Word, ...]
    segments: tuple[Segment, ...]
    duration_s: float

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return " ".join(word.text for word in self.words)
