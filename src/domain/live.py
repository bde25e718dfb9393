"""What a live session tells its listener; times are seconds from the session's first sample."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from .transcript import Word, join_words


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """`channel`, counted from 0, is where it was heard: the only one, unless each channel is transcribed by itself."""

    channel: int = 0


@dataclass(frozen=True, slots=True)
class SpeechStarted(_Heard):
    """An utterance begins at `at_s`; of each one the listener hears that it stopped, and its `Final`."""

    at_s: float


@dataclass(frozen=True, slots=True)
class SpeechStopped(_Heard):
    """The speaker fell silent at `at_s`; what was said follows as soon as it has been read."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Partial(_Heard):
    """What the utterance reads now: `stable` words never change again, `draft` words may.

    Attributes:
        stable: Words that stay as they are, in every later message of this utterance.
        draft: Words after them as they read now.
        behind_s: Audio that has arrived and is not in this text yet.
    """

    stable: tuple[Word, ...]
    draft: tuple[Word, ...]
    behind_s: float

    @property
    def words(self) -> tuple[Word, ...]:
        """Stable words, then draft words."""
        return (*self.stable, *self.draft)

    @property
    def text(self) -> str:
        """All words as they read."""
        return join_words(self.words)

    @property
    def draft_text(self) -> str:
        """The end of `text` that may still change."""
        return join_words(self.draft)


class EndCause(Enum):
    """What ended an utterance."""

    SILENCE = "silence"
    LENGTH = "length"
    """It was as long as one may be, and the speaker goes on."""
    ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Final(_Heard):
    """A finished utterance, the `utterance`-th of its channel, counted from 0."""

    words: tuple[Word, ...]
    utterance: int
    cause: EndCause

    @property
    def text(self) -> str:
        """The words as they read; empty where speech was heard and no word was read, or nothing had been said."""
        return join_words(self.words)


@dataclass(frozen=True, slots=True)
class Cleared(_Heard):
    """What was said since the last `Final` is forgotten, as was asked for; nothing more is heard of it."""


LiveEvent: TypeAlias = SpeechStarted | SpeechStopped | Partial | Final | Cleared
