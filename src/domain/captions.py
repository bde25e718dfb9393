"""Words as captions: SubRip (SRT) and WebVTT."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate, pairwise

from .errors import InvalidRequestError
from .transcript import Transcript, Word, join_words

_PAUSE_S = 1.0
"""Captions do not stand through a longer pause."""
_CLAUSE_ENDS = (",", ";", ":", "\u2013", "\u2014")
# No line ends on these where another place can be found: they belong to the word behind them.
_ARTICLES = frozenset(
    [
        "a",
        "an",
        "the",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "des",
        "ein",
        "eine",
        "einen",
        "einem",
        "einer",
        "eines",
        "le",
        "la",
        "les",
        "un",
        "une",
        "el",
        "los",
        "las",
        "una",
        "unos",
        "unas",
        "il",
        "lo",
        "gli",
        "uno",
        "o",
        "os",
        "as",
        "um",
        "uma",
        "uns",
        "umas",
        "het",
        "een",
        "de",
    ]
)
_IMPOSSIBLE = 1e4


@dataclass(frozen=True, slots=True)
class CaptionStyle:
    """What captions may be; common subtitling practice by default.

    Attributes:
        max_line_width: Characters per line; only a longer word has more.
        max_line_count: Lines per cue.
        max_words_per_line: Words per line; ``None``: as many as fit.
        highlight_words: Whether each word is underlined while it is spoken.
        max_cue_duration: Longest time that a cue stands, in seconds; only a longer word stands longer.
        min_cue_duration: Shortest time, in seconds, where the next cue and the end of the recording leave as much.
        min_gap: Least time between two cues, in seconds.

    Raises:
        InvalidRequestError: A value is out of range; it is named.
    """

    max_line_width: int = field(default=42, metadata={"range": (1, 1000)})
    max_line_count: int = field(default=2, metadata={"range": (1, 10)})
    max_words_per_line: int | None = field(default=None, metadata={"range": (1, 100)})
    highlight_words: bool = False
    max_cue_duration: float = field(default=7.0, metadata={"range": (0.1, 60)})
    min_cue_duration: float = field(default=1.0, metadata={"range": (0, 60)})
    min_gap: float = field(default=0.08, metadata={"range": (0, 10)})

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for one in fields(self):
            value = getattr(self, one.name)
            if "range" in one.metadata and value is not None:
                least, most = one.metadata["range"]
                if not least <= value <= most:
                    raise InvalidRequestError(f"{one.name} must be from {least} to {most}.", param=one.name)
        if self.min_cue_duration > self.max_cue_duration:
            raise InvalidRequestError("min_cue_duration must not exceed max_cue_duration.", param="min_cue_duration")


DEFAULT_STYLE = CaptionStyle()


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines of text that stand on the screen for ``[start_s, end_s)``.

    Attributes:
        lines: At least one, each of at least one word.
        start_s: When the first word begins.
        end_s: When the last word ends, or later, for it to be read.
    """

    lines: tuple[tuple[Word, ...], ...]
    start_s: float
    end_s: float

    @property
    def words(self) -> tuple[Word, ...]:
        """Those of all lines."""
        return tuple(word for line in self.lines for word in line)

    @property
    def text(self) -> str:
        """Its lines, one below the other."""
        return "\n".join(join_words(line) for line in self.lines)


def cues_of(transcript: Transcript, style: CaptionStyle = DEFAULT_STYLE) -> tuple[Cue, ...]:
    """Cut the words into cues that can be read, at the best places that there are."""
    if transcript.channels is not None:
        # Who speaks at the same time has a cue at the same time.
        apart = (cues_of(transcript.of_channel(number), style) for number in range(transcript.channels))
        return tuple(sorted((cue for cues in apart for cue in cues), key=lambda cue: cue.start_s))
    words = transcript.words
    groups = [group for run in _runs(words) for group in _groups(words, run, transcript.duration_s, style)]
    starts = [words[begin].start_s for begin, _ in groups]
    cues: list[Cue] = []
    for (begin, end), next_s in zip(groups, [*starts, math.inf][1:], strict=True):
        start_s, spoken_s = words[begin].start_s, words[end - 1].end_s
        latest_s = min(next_s - style.min_gap, max(transcript.duration_s, spoken_s))
        # Where words follow each other without a gap, the cue gives way; not so much that it could not be seen.
        end_s = min(max(spoken_s, start_s + style.min_cue_duration), max(latest_s, (start_s + spoken_s) / 2))
        cues.append(Cue(_lines(words[begin:end], style), start_s, end_s))
    return tuple(cues)


def to_srt(transcript: Transcript, style: CaptionStyle = DEFAULT_STYLE) -> str:
    """SubRip text; empty for silence."""
    shown = _shown(cues_of(transcript, style), style, escape=str)
    return "".join(
        f"{number}\n{_times(start_s, end_s, ',')}\n{text}\n\n" for number, (start_s, end_s, text) in enumerate(shown, 1)
    )


def to_vtt(transcript: Transcript, style: CaptionStyle = DEFAULT_STYLE) -> str:
    """WebVTT text; its header alone for silence."""
    shown = _shown(cues_of(transcript, style), style, escape=_escaped)
    return "WEBVTT\n\n" + "".join(f"{_times(start_s, end_s, '.')}\n{text}\n\n" for start_s, end_s, text in shown)


def _runs(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Words ``[begin, end)`` without a pause between them."""
    begin = 0
    for at, (last, word) in enumerate(pairwise(words), 1):
        if word.start_s - last.end_s >= _PAUSE_S:
            yield begin, at
            begin = at
    if words:
        yield begin, len(words)


def _groups(
    words: Sequence[Word], run: tuple[int, int], duration_s: float, style: CaptionStyle
) -> list[tuple[int, int]]:
    """The words of each cue in a run: those that cost least together."""
    first, last = run
    characters = [0, *accumulate(len(word.text) + 1 for word in words[first:last])]
    sentences = [0, *accumulate(word.ends_sentence for word in words[first:last])]
    costs = [0.0] + [math.inf] * (last - first)
    origins = [first] * (last - first + 1)
    for begin in range(first, last):
        for end in _possible_ends(words, begin, last, style):
            next_s = words[end].start_s - style.min_gap if end < len(words) else math.inf
            stands_s = min(next_s, max(duration_s, words[end - 1].end_s)) - words[begin].start_s
            # One for itself, so that there are few, and more for a full one, so that they are of like length.
            width = characters[end - first] - characters[begin - first]
            fill = width / (style.max_line_width * style.max_line_count)
            cost = costs[begin - first] + 10 + 10 * fill * fill
            # Sentences share a cue only where one of them would be too short.
            cost += 30 * (sentences[end - 1 - first] - sentences[begin - first])
            cost += _end_cost(words, begin, end)
            if end < last and _is_article(words[end - 1]):
                cost += _IMPOSSIBLE
            if stands_s < style.min_cue_duration:
                cost += 300 * min(1 - stands_s / max(style.min_cue_duration, 0.1), 1)
            if cost < costs[end - first]:
                costs[end - first], origins[end - first] = cost, begin
    groups: list[tuple[int, int]] = []
    while last > first:
        groups.append((origins[last - first], last))
        last = groups[-1][0]
    return groups[::-1]


def _end_cost(words: Sequence[Word], begin: int, end: int) -> float:
    """How bad it is to cut there: between sentences it is not, and a word or two of one must not stand alone."""
    last = words[end - 1]
    cost = 0.0 if last.ends_sentence else 2.0 if last.text.endswith(_CLAUSE_ENDS) else 8.0
    if not (last.ends_sentence and (begin == 0 or words[begin - 1].ends_sentence)):
        cost += {1: 200, 2: 20}.get(end - begin, 0)
    return cost


def _possible_ends(words: Sequence[Word], begin: int, last: int, style: CaptionStyle) -> Iterator[int]:
    """Where a cue that begins there may end: as many words as its lines and its time can hold, at least one."""
    most_words = style.max_words_per_line or math.inf
    lines, line = 1, begin  # the current line's number and first word
    width = -1
    for at in range(begin, last):
        width += 1 + len(words[at].text)
        if at > line and (width > style.max_line_width or at - line >= most_words):
            # Articles at the end of the full line go to the next one with this word.
            broken = at
            while broken - 1 > line and _is_article(words[broken - 1]):
                broken -= 1
            width = len(join_words(words[broken : at + 1]))
            if width > style.max_line_width:
                # They do not fit before this word: then the line ends on them.
                broken, width = at, len(words[at].text)
            lines, line = lines + 1, broken
        too_long = words[at].end_s - words[begin].start_s > style.max_cue_duration
        if at > begin and (too_long or lines > style.max_line_count):
            return
        yield at + 1


def _lines(words: Sequence[Word], style: CaptionStyle) -> tuple[tuple[Word, ...], ...]:
    """The fewest lines that hold the words, of like length, none of them ending on an article."""
    count = len(words)
    # For each number of lines: what the first words cost in so many, and where the last of these lines begins.
    costs: list[float] = [0.0] + [math.inf] * count
    origins: list[list[int]] = []
    totals: list[float] = []
    for _ in range(style.max_line_count):
        longer, begins = [math.inf] * (count + 1), [0] * (count + 1)
        for end in range(1, count + 1):
            width = -1
            for begin in range(end - 1, -1, -1):
                width += 1 + len(words[begin].text)
                over = width > style.max_line_width or end - begin > (style.max_words_per_line or count)
                if over and end - begin > 1:
                    break
                cost = costs[begin] + width * width
                cost += _IMPOSSIBLE * (end < count and _is_article(words[end - 1]))
                if cost < longer[end]:
                    longer[end], begins[end] = cost, begin
        origins.append(begins)
        costs = longer
        totals.append(costs[count])
        if costs[count] < _IMPOSSIBLE:
            break
    lines: list[tuple[Word, ...]] = []
    for begins in reversed(origins[: totals.index(min(totals)) + 1]):
        lines.append(tuple(words[begins[count] : count]))
        count = begins[count]
    return tuple(reversed(lines))


def _is_article(word: Word) -> bool:
    return word.text.lower() in _ARTICLES


def _shown(
    cues: Sequence[Cue], style: CaptionStyle, *, escape: Callable[[str], str]
) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of what is shown: each cue, or one for each of its words and the pauses between them."""
    for cue in cues:
        lines = [[escape(word.text) for word in line] for line in cue.lines]
        plain = "\n".join(" ".join(line) for line in lines)
        if not style.highlight_words:
            yield cue.start_s, cue.end_s, plain
            continue
        at_s = cue.start_s
        places = [(row, column) for row, line in enumerate(lines) for column in range(len(line))]
        for word, (row, column) in zip(cue.words, places, strict=True):
            start_s, end_s = max(word.start_s, at_s), min(word.end_s, cue.end_s)
            if round(start_s * 1000) > round(at_s * 1000):
                yield at_s, start_s, plain
            if round(end_s * 1000) > round(start_s * 1000):
                marked = [list(line) for line in lines]
                marked[row][column] = f"<u>{marked[row][column]}</u>"
                yield start_s, end_s, "\n".join(" ".join(line) for line in marked)
                at_s = end_s
        if round(cue.end_s * 1000) > round(at_s * 1000):
            yield at_s, cue.end_s, plain


def _times(start_s: float, end_s: float, mark: str) -> str:
    start_ms = round(start_s * 1000)
    # A cue that ends when it begins is never shown (W3C WebVTT, section 4.1).
    end_ms = max(round(end_s * 1000), start_ms + 1)
    return f"{_clock(start_ms, mark)} --> {_clock(end_ms, mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{mark}{milliseconds % 1000:03}"


def _escaped(text: str) -> str:
    # "-->" must not occur in a WebVTT cue, and "&" and "<" begin markup (W3C WebVTT, section 4.2).
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
