import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parakeet_service.domain.captions import CaptionStyle, Cue, cues_of, to_srt, to_vtt
from parakeet_service.domain.errors import InvalidRequestError
from parakeet_service.domain.transcript import Transcript, Word, join_words
from tests.unit.domain.spoken import word, words

_TEXTS = st.one_of(
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=14),
    st.sampled_from(["a", "so.", "5", "<i>", "-->", "AT&T", "&lt;", "x" * 41, "x" * 42, "x" * 50]),
)
_SPOKEN = st.lists(st.tuples(_TEXTS, st.floats(0, 3), st.floats(0, 2)), max_size=40)

_STYLES = st.builds(
    CaptionStyle,
    max_line_width=st.integers(1, 60),
    max_line_count=st.integers(1, 4),
    max_words_per_line=st.one_of(st.none(), st.integers(1, 8)),
    max_cue_duration=st.floats(1, 10),
    min_cue_duration=st.floats(0, 1),
    min_gap=st.floats(0, 0.5),
)


def _transcript(spoken: list[tuple[str, float, float]], *, from_s: float = 0.0) -> Transcript:
    """Words, each a pause behind the last and of its own length."""
    said: list[Word] = []
    at_s = from_s
    for text, pause_s, lasts_s in spoken:
        said.append(word(text, at_s + pause_s, at_s + pause_s + lasts_s))
        at_s += pause_s + lasts_s
    return Transcript.of(said, duration_s=at_s)


def _one(text: str, start_s: float, end_s: float) -> Transcript:
    return Transcript.of(words((text, start_s, end_s)), duration_s=1e6)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = re.split(":", clock.replace(",", "."))
    assert len(minutes) == len(seconds.split(".")[0]) == 2
    assert int(minutes) < 60 > float(seconds)
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _parse(body: str, mark: str) -> list[tuple[float, float, str]]:
    """Blocks of a line of times and lines of text, each closed by an empty line."""
    cues: list[tuple[float, float, str]] = []
    for block in body.split("\n\n")[:-1]:
        head, *lines = block.split("\n")
        clocks = re.fullmatch(rf"(\d\d+:\d\d:\d\d\{mark}\d\d\d) --> (\d\d+:\d\d:\d\d\{mark}\d\d\d)", head)
        assert clocks, head
        cues.append((_seconds(clocks[1]), _seconds(clocks[2]), "\n".join(lines)))
    return cues


def _parse_srt(text: str) -> list[tuple[float, float, str]]:
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    numbers = [block.partition("\n")[0] for block in blocks]
    assert numbers == [str(at + 1) for at in range(len(blocks))]
    return _parse("".join(block.partition("\n")[2] + "\n\n" for block in blocks), ",")


def _parse_vtt(text: str) -> list[tuple[float, float, str]]:
    header, _, body = text.partition("\n\n")
    assert header == "WEBVTT"
    assert "<" not in body
    assert body.count("-->") == body.count(" --> ")
    cues = _parse(body, ".")
    return [
        (start_s, end_s, said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        for start_s, end_s, said in cues
    ]


class TestCues:
    @given(_SPOKEN)
    def test_together_they_say_all_and_in_order(self, spoken: list[tuple[str, float, float]]) -> None:
        transcript = _transcript(spoken)

        assert " ".join(cue.text.replace("\n", " ") for cue in cues_of(transcript)) == transcript.text

    @given(_SPOKEN, _STYLES)
    def test_their_times_are_in_order_and_hold_their_words(
        self, spoken: list[tuple[str, float, float]], style: CaptionStyle
    ) -> None:
        transcript = _transcript(spoken)
        cues = cues_of(transcript, style)

        assert [cue.start_s for cue in cues] == [cue.words[0].start_s for cue in cues]
        assert all(cue.start_s <= cue.end_s <= transcript.duration_s + 1e-9 for cue in cues)
        assert all(cue.end_s <= following.start_s for cue, following in pairwise(cues))

    @given(_SPOKEN, _STYLES)
    def test_they_stand_as_long_as_they_can_and_leave_a_gap(
        self, spoken: list[tuple[str, float, float]], style: CaptionStyle
    ) -> None:
        transcript = _transcript(spoken)
        cues = cues_of(transcript, style)

        for cue, following in pairwise(cues):
            room_s = following.start_s - style.min_gap - cue.start_s
            if room_s >= cue.words[-1].end_s - cue.start_s:
                assert cue.end_s <= following.start_s - style.min_gap + 1e-9
                assert cue.end_s - cue.start_s >= min(style.min_cue_duration, room_s) - 1e-9

    @given(_SPOKEN, _STYLES)
    @example([("x" * 40, 0, 0.1), ("y" * 10, 0, 0.1), ("z" * 32, 0, 0.1)], CaptionStyle())
    # Fewer words than there may be lines, and an article that must end one of them.
    @example([("the", 0, 0.8), ("end", 0, 0.8)], CaptionStyle(max_line_width=5, max_line_count=4, max_words_per_line=1))
    # One word, wider than what costs nothing.
    @example([("x" * 200, 0, 0.8)], CaptionStyle(max_line_width=1000, max_line_count=3))
    def test_they_fit_the_screen_where_words_allow(
        self, spoken: list[tuple[str, float, float]], style: CaptionStyle
    ) -> None:
        for cue in cues_of(_transcript(spoken), style):
            assert 1 <= len(cue.lines) <= style.max_line_count
            assert all(cue.lines)
            assert all(len(join_words(line)) <= style.max_line_width or len(line) == 1 for line in cue.lines)
            assert all(len(line) <= (style.max_words_per_line or 99) for line in cue.lines)

    @given(_SPOKEN, _STYLES)
    def test_none_stands_too_long_but_a_long_word(
        self, spoken: list[tuple[str, float, float]], style: CaptionStyle
    ) -> None:
        for cue in cues_of(_transcript(spoken), style):
            assert cue.end_s - cue.start_s <= style.max_cue_duration + 1e-9 or len(cue.words) == 1

    def test_lines_are_of_like_length(self) -> None:
        (cue,) = cues_of(_transcript([("x" * 9, 0, 0.1)] * 6))

        assert [len(line) for line in cue.text.split("\n")] == [29, 29]

    def test_what_fits_one_line_is_one_line(self) -> None:
        (cue,) = cues_of(_transcript([("x" * 20, 0, 0.1), ("y" * 21, 0, 0.1)]))

        assert cue.text == "x" * 20 + " " + "y" * 21

    def test_takes_two_whole_lines(self) -> None:
        (cue,) = cues_of(_transcript([("x" * 42, 0, 0.6), ("y" * 42, 0, 0.6)]))

        assert cue.text == "x" * 42 + "\n" + "y" * 42

    def test_a_pause_begins_another(self) -> None:
        assert [cue.text for cue in cues_of(_transcript([("a", 0, 1), ("b", 0.99, 1), ("c", 1, 1)]))] == ["a b", "c"]

    def test_seven_seconds_are_enough(self) -> None:
        assert [cue.text for cue in cues_of(_transcript([("a", 0, 3), ("b", 0, 4), ("c", 0, 1)]))] == ["a b", "c"]

    def test_a_sentence_begins_another(self) -> None:
        sentences = [(text, 0.1, 0.5) for text in "Here is one sentence. There is one more.".split()]
        texts = [cue.text for cue in cues_of(_transcript(sentences))]

        assert texts == ["Here is one sentence.", "There is one more."]

    def test_short_sentences_stand_together_where_time_is_short(self) -> None:
        assert [cue.text for cue in cues_of(_transcript([("Yes.", 0, 0.2), ("No.", 0.3, 0.2)]))] == ["Yes. No."]

    def test_a_short_word_stands_on_into_the_silence(self) -> None:
        (cue, _) = cues_of(_transcript([("Yes.", 0, 0.16), ("No.", 2.9, 0.2)]))

        assert (cue.start_s, cue.end_s) == (0, 1.0)

    def test_no_word_is_left_alone(self) -> None:
        text = "the prisoners are still in custody after a lapse of ten long and weary years."
        cues = cues_of(_transcript([(one, 0, 0.3) for one in text.split()]))

        assert len(cues) == 1
        cues = cues_of(_transcript([(one, 0, 0.3) for one in f"and so it was that {text}".split()]))
        assert len(cues) == 2
        assert min(len(cue.words) for cue in cues) > 2

    @pytest.mark.parametrize("width", range(12, 43, 3))
    def test_no_line_ends_on_an_article(self, width: int) -> None:
        text = "in the city, the men had been seen by the guard of an old house near the river with a boat and the dog"
        cues = cues_of(_transcript([(one, 0, 0.3) for one in text.split()]), CaptionStyle(max_line_width=width))

        ends = {line[-1].text for cue in cues for line in cue.lines}
        assert ends.isdisjoint({"the", "a", "an"})

    def test_a_word_that_is_too_long_has_a_line_of_its_own(self) -> None:
        cues = cues_of(_transcript([("a", 0, 1), ("x" * 50, 0, 1), ("b", 0, 1)]))

        assert "x" * 50 in "\n".join(cue.text for cue in cues).split("\n")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_line_width", 0),
            ("max_line_count", 11),
            ("max_words_per_line", 0),
            ("max_cue_duration", 0.0),
            ("min_cue_duration", 8.0),
            ("min_gap", -0.1),
        ],
    )
    def test_a_style_that_cannot_be_is_refused(self, name: str, value: float) -> None:
        with pytest.raises(InvalidRequestError, match=name):
            CaptionStyle(**{name: value})  # type: ignore[arg-type]

    def test_hours_take_no_longer_for_each_word(self) -> None:
        long = _transcript([("word", 0.05, 0.3)] * 3000)

        assert len(cues_of(long, CaptionStyle(max_line_width=1000, max_line_count=10, max_cue_duration=60))) < 30


class TestHighlighted:
    STYLE = CaptionStyle(highlight_words=True)

    def test_each_word_is_underlined_while_it_is_spoken(self) -> None:
        spoken = _transcript([("One", 0, 0.5), ("two.", 0.25, 0.5)])

        assert _parse_srt(to_srt(spoken, self.STYLE)) == [
            (0, 0.5, "<u>One</u> two."),
            (0.5, 0.75, "One two."),
            (0.75, 1.25, "One <u>two.</u>"),
        ]

    @given(_SPOKEN)
    def test_they_come_in_order(self, spoken: list[tuple[str, float, float]]) -> None:
        starts = [start_s for start_s, _, _ in _parse_srt(to_srt(_transcript(spoken), self.STYLE))]

        assert starts == sorted(starts)

    def test_markup_is_escaped_and_the_underline_is_not(self) -> None:
        assert "<u>&lt;i&gt;</u>" in to_vtt(_one("<i>", 0, 1), self.STYLE)


class TestWritten:
    @given(_SPOKEN, st.sampled_from([0.0, 59.9996, 3599.9996, 36_000.0]))
    def test_srt_can_be_read_back(self, spoken: list[tuple[str, float, float]], from_s: float) -> None:
        transcript = _transcript(spoken, from_s=from_s)

        _same(_parse_srt(to_srt(transcript)), cues_of(transcript))

    @given(_SPOKEN, st.sampled_from([0.0, 59.9996, 3599.9996, 36_000.0]))
    def test_vtt_can_be_read_back(self, spoken: list[tuple[str, float, float]], from_s: float) -> None:
        transcript = _transcript(spoken, from_s=from_s)

        _same(_parse_vtt(to_vtt(transcript)), cues_of(transcript))

    def test_srt_looks_as_players_expect(self) -> None:
        transcript = Transcript.of(words(("Hello", 0.5, 1), ("you.", 1, 1.25), ("Bye.", 2, 2.5)), duration_s=3)

        assert to_srt(transcript) == (
            "1\n00:00:00,500 --> 00:00:01,500\nHello you.\n\n2\n00:00:02,000 --> 00:00:03,000\nBye.\n\n"
        )

    def test_vtt_looks_as_browsers_expect(self) -> None:
        assert to_vtt(_one("Hello", 0.5, 1)) == "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nHello\n\n"

    def test_silence_has_no_cues(self) -> None:
        silence = Transcript.of((), duration_s=9)

        assert to_srt(silence) == ""
        assert to_vtt(silence) == "WEBVTT\n\n"

    @pytest.mark.parametrize(
        ("at_s", "clock"),
        [
            (0.0004, "00:00:00,000"),
            (59.9994, "00:00:59,999"),
            (59.9996, "00:01:00,000"),
            (3599.9996, "01:00:00,000"),
            (3661.5, "01:01:01,500"),
            (360_000, "100:00:00,000"),
        ],
    )
    def test_clocks_round_to_milliseconds(self, at_s: float, clock: str) -> None:
        assert f"\n{clock} --> " in to_srt(_one("a", at_s, at_s + 1))

    def test_vtt_escapes_markup(self) -> None:
        assert "\n&lt;b&gt;AT&amp;T&amp;lt;--&gt;\n" in to_vtt(_one("<b>AT&T&lt;-->", 0, 1))

    def test_srt_has_no_escapes(self) -> None:
        assert "\n<b>&\n" in to_srt(_one("<b>&", 0, 1))

    def test_a_cue_without_length_can_still_be_seen(self) -> None:
        transcript = Transcript.of(words(("late", 2.0, 2.0)), duration_s=2)

        assert "00:00:02.000 --> 00:00:02.001" in to_vtt(transcript)


def _same(read: list[tuple[float, float, str]], cues: tuple[Cue, ...]) -> None:
    assert [said for _, _, said in read] == [cue.text for cue in cues]
    for (start_s, end_s, _), cue in zip(read, cues, strict=True):
        assert start_s == pytest.approx(cue.start_s, abs=0.00051)
        assert end_s == pytest.approx(cue.end_s, abs=0.00151)
        assert end_s > start_s
    starts = [start_s for start_s, _, _ in read]
    assert starts == sorted(starts)
