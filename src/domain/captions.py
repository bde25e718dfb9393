"""Words as captions: SubRip (SRT) and WebVTT."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .transcript import Transcript, Word, join_words

_LINE_CHARS = 42
_CUE_S = 7.0
_PAUSE_S = 1.0
"""Common subtitling practice: two lines of 42 characters, at most seven seconds."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Up to two lines of text that stand on the screen for ``[start_s, end_s)``."""

    lines: tuple[str, ...]
    start_s: float
    end_s: float

    @property
    def text(self) -> str:
        """Its lines, one below the other."""
        return "\n".join(self.lines)


def cues_of(transcript: Transcript) -> tuple[Cue, ...]:
    """Cut each segment into cues; a cue's times are those of its words."""
    return tuple(
        Cue(_lines(words), words[0].start_s, words[-1].end_s)
        for segment in transcript.segments
        for words in _groups(segment.words)
    )


def to_srt(transcript: Transcript) -> str:
    """SubRip text; empty for silence."""
    return "".join(f"{number}\n{_times(cue, ',')}\n{cue.text}\n\n" for number, cue in enumerate(cues_of(transcript), 1))


def to_vtt(transcript: Transcript) -> str:
    """WebVTT text; its header alone for silence."""
    return "WEBVTT\n\n" + "".join(f"{_times(cue, '.')}\n{_escaped(cue.text)}\n\n" for cue in cues_of(transcript))


def _groups(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    first = 0
    for at, (last, word) in enumerate(pairwise(words), 1):
        too_long = any(len(line) > _LINE_CHARS for line in _lines(words[first : at + 1]))
        if too_long or word.end_s - words[first].start_s > _CUE_S or word.start_s - last.end_s >= _PAUSE_S:
            yield words[first:at]
            first = at
    yield words[first:]


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    text = join_words(words)
    if len(text) <= _LINE_CHARS or len(words) == 1:
        return (text,)
    breaks = range(1, len(words))
    best = min(breaks, key=lambda at: max(len(join_words(words[:at])), len(join_words(words[at:]))))
    return (join_words(words[:best]), join_words(words[best:]))


def _times(cue: Cue, mark: str) -> str:
    start_ms = round(cue.start_s * 1000)
    # A cue that ends when it begins is never shown (W3C WebVTT, section 4.1).
    end_ms = max(round(cue.end_s * 1000), start_ms + 1)
    return f"{_clock(start_ms, mark)} --> {_clock(end_ms, mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _escaped(text: str) -> str:
    # "-->" must not occur in a WebVTT cue, and "&" and "<" begin markup (W3C WebVTT, section 4.2).
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
