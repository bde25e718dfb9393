"""What was said and when: tokens, words, segments. Times are seconds from the recording's first sample."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .recording_warnings import RecordingWarning
from .vad import VadScores

SENTENCE_ENDS = (".", "?", "!")
_CLOSING = "\"')]}»”\u2019"
_GIVES_WAY = re.compile(r"[,;:]+(?=[.?!]$)")
_SPOKEN = re.compile(r"[^\W_]|[$€£¥%&@#+=°]")
"""Letters, digits, and the marks that are said, and so are words or parts of words."""


@dataclass(frozen=True, slots=True)
class Token:
    """One sub-word as the model emitted it; half-open interval ``[start_s, end_s)``.

    Attributes:
        id: Index in the model's vocabulary.
        text: The piece as it reads; a leading space begins a new word. Never a control token.
        start_s: When it begins.
        end_s: When it ends; may equal `start_s`, for models may give a piece no duration.
        confidence: In [0, 1].
    """

    id: int
    text: str
    start_s: float
    end_s: float
    confidence: float

    def shifted(self, by_s: float) -> "Token":
        """The same token, `by_s` seconds later."""
        # Not by `replace`, which takes five times as long: this is done for every token of every recording.
        return Token(self.id, self.text, self.start_s + by_s, self.end_s + by_s, self.confidence)


@dataclass(frozen=True, slots=True)
class Word:
    """A whole word with the punctuation that clings to it; half-open interval ``[start_s, end_s)``."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    tokens: tuple[Token, ...]
    channel: int | None = None
    """Counted from 0; ``None`` where all channels were mixed."""

    @property
    def ends_sentence(self) -> bool:
        """Whether it closes a sentence."""
        return self.text.rstrip(_CLOSING).endswith(SENTENCE_ENDS)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of words that reads as a sentence, or as much of one as was said without a pause.

    Attributes:
        words: At least one.
        no_speech_probability: How likely it is, on average over its time, that nobody speaks; ``None`` if no detector
            of speech has listened.
    """

    words: tuple[Word, ...]
    no_speech_probability: float | None = None

    @property
    def text(self) -> str:
        """The words joined by spaces."""
        return join_words(self.words)

    @property
    def channel(self) -> int | None:
        """The channel of its words."""
        return self.words[0].channel

    @property
    def start_s(self) -> float:
        """When its first word begins."""
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        """When its last word ends."""
        return self.words[-1].end_s


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of one recording of `duration_s` seconds; words lie in it, in order, without overlap.

    `warnings` tell what of the recording is not in it. Where channels were read separately, `channels` is their number:
    the words of each are in order and without overlap, and all stand in the order of the segments, by their beginnings.
    """

    words: tuple[Word, ...]
    segments: tuple[Segment, ...]
    duration_s: float
    warnings: tuple[RecordingWarning, ...] = ()
    channels: int | None = None

    @property
    def text(self) -> str:
        """The words joined by spaces; empty for silence."""
        return join_words(self.words)

    @classmethod
    def of(
        cls,
        words: Sequence[Word],
        *,
        duration_s: float,
        speech: VadScores | None = None,
        warnings: Iterable[RecordingWarning] = (),
    ) -> "Transcript":
        """Set the words' times straight and group them into segments; `speech` tells how likely they were spoken."""
        straight = monotone_times(words, end_s=duration_s)
        segments = segments_of(straight)
        if speech is not None:
            segments = tuple(
                replace(one, no_speech_probability=speech.no_speech(one.start_s, one.end_s)) for one in segments
            )
        return cls(words=straight, segments=segments, duration_s=duration_s, warnings=tuple(warnings))

    @classmethod
    def of_channels(
        cls, channels: Sequence["Transcript"], *, duration_s: float, warnings: Iterable[RecordingWarning] = ()
    ) -> "Transcript":
        """One transcript of several channels, their segments as people took turns; equally early ones by channel."""
        segments = [
            replace(one, words=tuple(replace(word, channel=number) for word in one.words))
            for number, channel in enumerate(channels)
            for one in channel.segments
        ]
        in_turn = tuple(sorted(segments, key=lambda one: one.start_s))
        return cls(
            words=tuple(word for one in in_turn for word in one.words),
            segments=in_turn,
            duration_s=duration_s,
            warnings=tuple(warnings),
            channels=len(channels),
        )

    def of_channel(self, number: int) -> "Transcript":
        """What was said on one channel, counted from 0."""
        segments = tuple(one for one in self.segments if one.channel == number)
        words = tuple(word for one in segments for word in one.words)
        return replace(self, words=words, segments=segments, channels=None)


def join_words(words: Iterable[Word]) -> str:
    """The words as they read, one space between them."""
    return " ".join(word.text for word in words)


def words_of(tokens: Iterable[Token]) -> tuple[Word, ...]:
    """Join sub-words into words: a piece with a leading space begins one, bare punctuation clings to one.

    To the last one, but for a mark with a space before it and none behind, which opens the next one. A mark that
    neither follows nor opens a word is left out, unless it is all there is. The tokens of the words are those that
    were given, in order and once each; further ones can change only the last word, and add words behind it.
    """
    words: list[list[Token]] = []
    marks: list[Token] = []  # What comes next tells whether they close a word or open one.
    for token in tokens:
        spaced = token.text.startswith(" ")
        if spaced:
            if words:
                words[-1].extend(marks)
            marks = []
        if words and not spaced and not marks:
            words[-1].append(token)
        elif _is_spoken(token):
            words.append([*marks, token])
            marks = []
        else:
            marks.append(token)
    if words:
        words[-1].extend(marks)
    else:
        words.append(marks)
    return tuple(word for pieces in words if (word := _word(pieces)) is not None)


class GrowingWords:
    """The words of tokens that come one after the other: what `words_of` gives for all of them.

    Only the last word is read again, so that what a token costs does not grow with the number of those before it.
    """

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        """Begin with the words of `tokens`."""
        self._whole: tuple[Word, ...] = ()
        self._open: tuple[Token, ...] = ()  # what the last word is made of, and may be made of yet
        self.words: tuple[Word, ...] = ()
        self.extend(tokens)

    def extend(self, tokens: Iterable[Token]) -> None:
        """Add the tokens that follow."""
        self._open = (*self._open, *tokens)
        words = words_of(self._open)
        if len(words) > 1:
            self._whole, self._open = (*self._whole, *words[:-1]), words[-1].tokens
        self.words = (*self._whole, *words[-1:])

    def followed_by(self, tokens: Iterable[Token]) -> tuple[Word, ...]:
        """The words, were these tokens to follow."""
        return (*self._whole, *words_of((*self._open, *tokens)))


def _is_spoken(piece: Token) -> bool:
    return _SPOKEN.search(piece.text) is not None


def _word(pieces: list[Token]) -> Word | None:
    text = "".join("".join(piece.text for piece in pieces).split())
    # At the end of what it hears a model may close with a full stop what it had given a comma.
    text = _GIVES_WAY.sub("", text)
    if not text:
        return None
    # A model may give a full stop the silence that follows it: only pieces that are spoken set the end.
    spoken = [piece for piece in pieces if _is_spoken(piece)] or pieces[:1]
    return Word(
        text=text,
        start_s=spoken[0].start_s,
        end_s=max(piece.end_s for piece in spoken),
        confidence=min(piece.confidence for piece in spoken),
        tokens=tuple(pieces),
    )


def monotone_times(
    words: Sequence[Word], *, begin_s: float = 0.0, end_s: float, shortest_s: float = 0.04
) -> tuple[Word, ...]:
    """Make times monotone, without overlap, inside ``[begin_s, end_s]``; a word's end gives way to the next one's start.

    Args:
        words: In the order in which they read, which is never changed.
        begin_s: Where the audio of these words begins.
        end_s: Where it ends.
        shortest_s: What a word keeps or gets where there is room for it.
    """
    starts: list[float] = []
    for word in words:
        starts.append(min(max(word.start_s, starts[-1] if starts else begin_s), end_s))
    settled: list[Word] = []
    for word, start_s, limit_s in zip(words, starts, [*starts, end_s][1:], strict=True):
        stop_s = min(max(word.end_s, start_s + shortest_s), limit_s)
        # Most words lie well: for the words of hours, copies would take a third of a second.
        lies_well = word.start_s == start_s and word.end_s == stop_s
        settled.append(word if lies_well else replace(word, start_s=start_s, end_s=stop_s))
    return tuple(settled)


def segments_of(words: Sequence[Word], *, pause_s: float = 1.5, longest_s: float = 30.0) -> tuple[Segment, ...]:
    """Group words: a new segment begins after a sentence's end, after a pause, or when the last is too long."""
    if not words:
        return ()
    groups = [[words[0]]]
    for last, word in pairwise(words):
        group = groups[-1]
        paused = word.start_s - last.end_s >= pause_s
        if last.ends_sentence or paused or word.end_s - group[0].start_s > longest_s:
            groups.append([word])
        else:
            group.append(word)
    return tuple(Segment(tuple(group)) for group in groups)
