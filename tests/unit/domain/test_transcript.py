import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parakeet_service.domain.transcript import (
    GrowingWords,
    Segment,
    Token,
    Transcript,
    Word,
    join_words,
    monotone_times,
    segments_of,
    words_of,
)
from tests.unit.domain.spoken import pieces, texts, times, token, word, words

_PIECES = st.one_of(
    st.sampled_from(
        [" hello", " a", "llo", "s", "'", ".", ",", " ,", ' "', '"', " $", "5", "%", " ", "", " ¿", " -", "é", " &"]
    ),
    st.text(max_size=4),
)
_TOKENS = st.lists(_PIECES, max_size=12).map(lambda spoken: pieces(*spoken))
_SECONDS = st.floats(-100, 100)
_UNSETTLED = st.lists(st.tuples(_SECONDS, _SECONDS), max_size=8).map(
    lambda spans: tuple(word(f"w{at}", *span) for at, span in enumerate(spans))
)


def _is_spoken(text: str) -> bool:
    return any(c.isalnum() or c in "$€£¥%&@#+=°" for c in text)


class TestWordsOf:
    @pytest.mark.parametrize(
        ("spoken", "expected"),
        [
            ([], []),
            ([" trans", "cri", "be", " it"], ["transcribe", "it"]),
            (["No", " space", " first"], ["No", "space", "first"]),
            ([" Hello", ",", " you", "."], ["Hello,", "you."]),
            ([" Hello", " ,", " you", " .", " ?"], ["Hello,", "you.?"]),
            ([" so", ",", ".", " Well", ",;", "?"], ["so.", "Well?"]),
            ([" etc", ".", ",", " 1", ",", ".5"], ["etc.,", "1,.5"]),
            ([" it", "'", "s"], ["it's"]),
            ([" twenty", "-", "one"], ["twenty-one"]),
            ([" 3", ".", "5"], ["3.5"]),
            ([" said", ' "', "Hello", '"', " he"], ["said", '"Hello"', "he"]),
            ([" said", ",", ' "', "'", "Tis"], ["said,", "\"'Tis"]),
            ([" dijo", " ¿", "Qué", "?"], ["dijo", "¿Qué?"]),
            ([" so", " .", ' "', "No"], ["so.", '"No']),
            ([" word", ' "', " next"], ['word"', "next"]),
            ([" cost", " $", "5", " or", " 5", "%"], ["cost", "$5", "or", "5%"]),
            ([" salt", " &", " pepper"], ["salt", "&", "pepper"]),
            ([" ", "one", " ", " two", " ", "."], ["one", "two."]),
            ([".", " Hello"], ["Hello"]),
            ([" ?", ' "', "Hello"], ['"Hello']),
            ([".", "net"], [".net"]),
            (["."], ["."]),
            ([" ", ""], []),
            ([" a b", "\n", " c\t"], ["ab", "c"]),
        ],
    )
    def test_reads_as_people_write(self, spoken: list[str], expected: list[str]) -> None:
        assert texts(words_of(pieces(*spoken))) == expected

    def test_punctuation_does_not_stretch_a_word(self) -> None:
        (one,) = words_of([token(" on", 1.0, 1.2), token("e", 1.2, 1.4), token(".", 1.4, 6.0, confidence=0.1)])

        assert times([one]) == [(1.0, 1.4)]
        assert one.confidence == 1.0

    def test_an_opening_mark_does_not_begin_its_word_early(self) -> None:
        _, quoted = words_of([token(" a", 0.0, 0.1), token(' "', 0.1, 3.0), token("b", 3.0, 3.2)])

        assert times([quoted]) == [(3.0, 3.2)]

    def test_a_mark_that_is_read_out_counts(self) -> None:
        (one,) = words_of([token(" 5", 1.0, 1.3), token("%", 1.3, 1.9)])

        assert times([one]) == [(1.0, 1.9)]

    def test_a_word_ends_with_its_last_piece_to_end_and_is_as_sure_as_its_least_sure(self) -> None:
        (one,) = words_of([token(" a", 0.0, 0.9, confidence=0.4), token("b", 0.2, 0.3, confidence=0.7)])

        assert times([one]) == [(0.0, 0.9)]
        assert one.confidence == 0.4

    def test_lone_punctuation_has_its_own_times(self) -> None:
        (mark,) = words_of([token(" .", 1.0, 1.5, confidence=0.3), token("?", 1.5, 9.0)])

        assert (mark.text, *times([mark]), mark.confidence) == (".?", (1.0, 1.5), 0.3)

    @given(_TOKENS)
    @example(pieces(".", ' "', " a", " .", ' "', "b", ","))
    def test_the_tokens_of_the_words_are_those_given(self, tokens: list[Token]) -> None:
        used = [one for w in words_of(tokens) for one in w.tokens]
        left_out = tokens[: len(tokens) - len(used)]

        assert used == tokens[len(left_out) :]
        assert not any(_is_spoken(one.text) for one in left_out)

    @given(_TOKENS)
    def test_no_word_is_bare_punctuation_but_an_only_one(self, tokens: list[Token]) -> None:
        found = words_of(tokens)

        assert len(found) <= 1 or all(_is_spoken(w.text) for w in found)

    @given(_TOKENS)
    def test_a_word_is_its_tokens_without_white_space(self, tokens: list[Token]) -> None:
        for w in words_of(tokens):
            said = "".join("".join(one.text for one in w.tokens).split())
            # A comma gives way to the full stop behind it.
            assert w.text == re.sub(r"[,;:]+([.?!])$", r"\1", said) != ""

    @given(_TOKENS)
    def test_words_are_never_glued(self, tokens: list[Token]) -> None:
        for w in words_of(tokens):
            spoken = [at for at, one in enumerate(w.tokens) if _is_spoken(one.text)]
            assert not any(w.tokens[at].text.startswith(" ") for at in spoken[1:])

    @given(_TOKENS)
    @example(pieces(" said", ' "', "Hello"))
    def test_further_tokens_change_the_last_word_alone(self, tokens: list[Token]) -> None:
        whole = words_of(tokens)
        for count in range(len(tokens)):
            known = words_of(tokens[:count])
            assert len(known) <= len(whole) or not whole
            assert known[:-1] == whole[: max(len(known) - 1, 0)]

    @given(st.lists(_TOKENS), _TOKENS)
    @example([pieces(" said", ' "'), pieces("Hello", ",")], pieces(".", " I"))
    @example([pieces(" "), pieces("a")], [])
    def test_growing_words_are_those_of_all_tokens(self, parts: list[list[Token]], draft: list[Token]) -> None:
        growing, so_far = GrowingWords(), list[Token]()
        for part in parts:
            growing.extend(part)
            so_far += part
            assert growing.words == words_of(so_far) == GrowingWords(so_far).words
            assert growing.followed_by(draft) == words_of([*so_far, *draft])


class TestWord:
    @pytest.mark.parametrize("text", ["Yes.", "Yes?", "Yes!", 'Yes."', "Yes.)", "Yes.\u2019", "Yes!»"])
    def test_ends_a_sentence(self, text: str) -> None:
        assert word(text, 0, 1).ends_sentence

    @pytest.mark.parametrize("text", ["Yes", "Yes,", "3.5", '"Yes"', ".net"])
    def test_does_not_end_a_sentence(self, text: str) -> None:
        assert not word(text, 0, 1).ends_sentence


def test_a_shifted_token_differs_in_its_times_alone() -> None:
    assert Token(7, " a", 1.0, 1.5, 0.5).shifted(2.25) == Token(7, " a", 3.25, 3.75, 0.5)


class TestSettleTimes:
    @given(_UNSETTLED, _SECONDS, _SECONDS)
    @example((), 0.0, 1.0)
    @example(words(("a", 5, 6), ("b", 4, 5)), 0.0, 1.0)
    def test_any_input_becomes_straight(self, spoken: tuple[Word, ...], begin_s: float, end_s: float) -> None:
        settled = monotone_times(spoken, begin_s=begin_s, end_s=end_s)

        assert [(w.text, w.confidence, w.tokens) for w in settled] == [(w.text, w.confidence, w.tokens) for w in spoken]
        edges = [edge for w in settled for edge in (w.start_s, w.end_s)]
        assert edges == sorted(edges)
        assert all(min(begin_s, end_s) <= edge <= end_s for edge in edges)
        assert monotone_times(settled, begin_s=begin_s, end_s=end_s) == settled

    def test_leaves_straight_words_alone(self) -> None:
        spoken = words(("a", 0.0, 0.5), ("b", 0.5, 0.9), ("c", 2.0, 2.04))

        assert monotone_times(spoken, end_s=3.0) == spoken

    def test_an_end_gives_way_to_the_next_start(self) -> None:
        assert times(monotone_times(words(("a", 0, 2), ("b", 1, 3)), end_s=9)) == [(0, 1), (1, 3)]

    def test_a_word_gets_a_shortest_length_where_there_is_room(self) -> None:
        spoken = words(("a", 1.0, 1.0), ("b", 2.0, 1.0), ("c", 2.5, 2.5), ("d", 2.75, 2.75))

        settled = monotone_times(spoken, end_s=3.0, shortest_s=0.5)

        assert times(settled) == [(1.0, 1.5), (2.0, 2.5), (2.5, 2.75), (2.75, 3.0)]

    def test_earlier_words_do_not_depend_on_where_the_audio_ends(self) -> None:
        spoken = words(("a", 0.0, 0.0), ("b", 0.5, 0.7), ("c", 0.9, 0.9))

        assert monotone_times(spoken, end_s=0.91)[:2] == monotone_times(spoken, end_s=60)[:2]

    def test_begins_where_it_is_told(self) -> None:
        assert times(monotone_times(words(("a", 1, 4), ("b", 2, 5)), begin_s=3, end_s=9)) == [(3, 3), (3, 5)]


class TestSegmentsOf:
    def test_silence_has_none(self) -> None:
        assert segments_of(()) == ()

    def test_a_sentence_is_one(self) -> None:
        spoken = words(("One", 0, 1), ("two.", 1, 2), ("Three", 2, 3))

        assert [segment.text for segment in segments_of(spoken)] == ["One two.", "Three"]

    def test_a_pause_parts(self) -> None:
        spoken = words(("a", 0, 1), ("b", 2.49, 3), ("c", 4.5, 5))

        assert [segment.text for segment in segments_of(spoken)] == ["a b", "c"]

    def test_none_is_too_long(self) -> None:
        spoken = words(*((f"w{at}", at, at + 1) for at in range(7)))

        assert [segment.text for segment in segments_of(spoken, longest_s=3)] == ["w0 w1 w2", "w3 w4 w5", "w6"]

    def test_lasts_from_its_first_word_to_its_last(self) -> None:
        segment = Segment(words(("a", 1, 2), ("b", 3, 4)))

        assert (segment.start_s, segment.end_s, segment.text) == (1, 4, "a b")

    @given(_UNSETTLED)
    def test_together_they_are_the_words(self, spoken: tuple[Word, ...]) -> None:
        segments = segments_of(spoken, longest_s=20)

        assert tuple(w for segment in segments for w in segment.words) == spoken
        assert all(segment.words for segment in segments)


class TestTranscript:
    def test_is_settled_and_segmented(self) -> None:
        transcript = Transcript.of(words(("Hi.", 0, 3), ("You", 2, 9)), duration_s=4)

        assert times(transcript.words) == [(0, 2), (2, 4)]
        assert [segment.words for segment in transcript.segments] == [(one,) for one in transcript.words]
        assert transcript.duration_s == 4
        assert transcript.text == "Hi. You"

    def test_silence_is_empty(self) -> None:
        assert Transcript.of((), duration_s=5) == Transcript((), (), 5)
        assert Transcript.of((), duration_s=5).text == ""

    @given(_UNSETTLED)
    def test_its_text_is_that_of_its_segments(self, spoken: tuple[Word, ...]) -> None:
        transcript = Transcript.of(spoken, duration_s=50)

        assert transcript.text == join_words(spoken) == " ".join(segment.text for segment in transcript.segments)
