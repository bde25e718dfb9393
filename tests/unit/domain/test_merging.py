from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parakeet_service.domain.merging import finalized_count, join_at_seam
from parakeet_service.domain.transcript import Word
from tests.unit.domain.spoken import texts, word, words

_JITTER_S = 0.29


def _in_a_row(*said: str, from_s: float = 0.0, each_s: float = 0.5) -> tuple[Word, ...]:
    return tuple(word(text, from_s + at * each_s, from_s + (at + 0.8) * each_s) for at, text in enumerate(said))


def _bare(text: str) -> str:
    return text.strip(".").lower()


def _later(spoken: Sequence[Word], by_s: float) -> tuple[Word, ...]:
    return tuple(replace(one, start_s=one.start_s + by_s, end_s=one.end_s + by_s) for one in spoken)


@dataclass(frozen=True)
class _Seam:
    """What was said, and how the windows on both sides of a seam have heard it."""

    said: tuple[Word, ...]
    left: tuple[Word, ...]
    right: tuple[Word, ...]
    overlap_s: tuple[float, float]


@st.composite
def _seams(draw: st.DrawFn, *, jitter_s: float, vocabulary: Sequence[str] = ()) -> _Seam:
    """Both read alike what they have heard whole; a word that is cut they may have, too.

    A word that comes again does so late enough for jitter not to hide which is which.
    """
    said: list[Word] = []
    last_s: dict[str, float] = {}
    at_s = 0.0
    for number in range(draw(st.integers(0, 14))):
        at_s += draw(st.one_of(st.floats(0, 0.6), st.just(2.0)))
        lasts_s = draw(st.floats(0.08, 0.5))
        text = draw(st.sampled_from(vocabulary)) if vocabulary else f"w{number}"
        at_s = last_s[_bare(text)] = max(at_s, last_s.get(_bare(text), -1) + 0.5 + jitter_s)
        said.append(word(text, at_s, at_s + lasts_s))
        at_s += lasts_s
    begin_s = draw(st.floats(0, max(at_s, 1)))
    end_s = begin_s + draw(st.floats(1.5, 4))
    cut_left, cut_right = draw(st.booleans()), draw(st.booleans())
    left = tuple(one for one in said if (one.start_s if cut_left else one.end_s) < end_s)
    right = tuple(one for one in said if (one.end_s if cut_right else one.start_s) >= begin_s)
    jitters = draw(st.lists(st.floats(-jitter_s, jitter_s), min_size=len(right), max_size=len(right)))
    heard = tuple(_later([one], by_s)[0] for one, by_s in zip(right, jitters, strict=True))
    return _Seam(tuple(said), left, heard, (begin_s, end_s))


class TestReadAlike:
    @given(_seams(jitter_s=_JITTER_S))
    def test_nothing_is_lost_or_doubled(self, seam: _Seam) -> None:
        assert texts(join_at_seam(seam.left, seam.right, overlap_s=seam.overlap_s)) == texts(seam.said)

    @given(_seams(jitter_s=_JITTER_S, vocabulary=["no", "No.", "yes"]))
    def test_nor_are_words_that_come_again(self, seam: _Seam) -> None:
        joined = join_at_seam(seam.left, seam.right, overlap_s=seam.overlap_s)

        assert texts(joined) == texts(seam.said)

    @given(
        st.integers(4, 20),
        st.floats(0, 3),
        st.floats(1, 3),
        st.floats(-0.05, 0.05),
        st.tuples(st.booleans(), st.booleans()),
    )
    @example(5, 0.35, 1.0, 0.0, (True, True))
    def test_very_very_very(
        self,
        times: int,
        begin_s: float,
        lasts_s: float,
        jitter_s: float,
        cuts: tuple[bool, bool],
    ) -> None:
        said = _in_a_row(*["very"] * times, each_s=0.3)
        cut_left, cut_right = cuts
        end_s = begin_s + lasts_s
        left = [one for one in said if (one.start_s if cut_left else one.end_s) < end_s]
        right = [one for one in said if (one.end_s if cut_right else one.start_s) >= begin_s]

        joined = join_at_seam(left, _later(right, jitter_s), overlap_s=(begin_s, end_s))

        assert len(joined) == times

    def test_no_no_no_that_meet_in_one_word(self) -> None:
        said = _in_a_row(*["no"] * 8, each_s=0.2)

        assert len(join_at_seam(said[:5], said[4:], overlap_s=(0.79, 0.97))) == 8

    def test_the_text_passes_where_both_have_context(self) -> None:
        left = _in_a_row("a", "b", "c", "d", "e", from_s=10)
        right = tuple(replace(one, confidence=0.5) for one in left)

        joined = join_at_seam(left, right, overlap_s=(10, 12.5))

        assert [one.confidence for one in joined] == [1, 1, 0.5, 0.5, 0.5]


class TestReadDifferently:
    def test_a_word_in_capitals_is_the_same_word(self) -> None:
        left = _in_a_row("the", "meeting", from_s=10)
        right = _in_a_row("Meeting", "starts", from_s=10.5)

        assert texts(join_at_seam(left, right, overlap_s=(10.4, 11.2))) == ["the", "Meeting", "starts"]

    def test_punctuation_makes_no_other_word(self) -> None:
        left = _in_a_row("we", "are", "done.", from_s=10)
        right = _in_a_row("done,", "so", from_s=11)

        assert texts(join_at_seam(left, right, overlap_s=(10.9, 11.6))) == ["we", "are", "done,", "so"]

    def test_bare_marks_are_not_all_one_word(self) -> None:
        left = _in_a_row("a", "-", from_s=10)
        right = _in_a_row("+", "b", from_s=10.5)

        assert texts(join_at_seam(left, right, overlap_s=(10.4, 11.5))) == ["a", "-", "b"]

    def test_a_word_cut_at_the_begin_is_taken_from_the_left(self) -> None:
        left = words(("great", 9.5, 9.9), ("works", 9.9, 10.5), ("fine", 10.6, 11), ("to", 11.1, 11.2))
        right = words(("ks", 10.2, 10.5), ("fine", 10.6, 11), ("today", 11.1, 11.6))

        assert texts(join_at_seam(left, right, overlap_s=(10.2, 11.3))) == ["great", "works", "fine", "today"]

    def test_a_word_read_in_two_ways_is_there_once(self) -> None:
        left = words(("we", 8.0, 8.5), ("gonna", 10.3, 10.8))
        right = words(("going", 10.4, 10.9), ("home", 12, 12.5))

        assert texts(join_at_seam(left, right, overlap_s=(10, 11))) == ["we", "going", "home"]
        assert texts(join_at_seam(left, right, overlap_s=(10, 11.4))) == ["we", "gonna", "home"]

    @pytest.mark.parametrize("later_s", [-0.2, -0.1, 0.0, 0.1, 0.2])
    def test_so_it_is_wherever_the_middle_lies(self, later_s: float) -> None:
        left = words(("we", 8.0, 8.5), ("gonna", 10.3, 10.7))
        right = _later(words(("going", 10.3, 10.7)), later_s)

        assert len(join_at_seam(left, right, overlap_s=(10, 11))) == 2

    def test_an_only_word_that_the_right_hears_late_is_there_once(self) -> None:
        left = words(("we", 8.0, 8.5), ("go", 11.6, 11.9))

        assert texts(join_at_seam(left, words(("go", 12.05, 12.4)), overlap_s=(10, 12))) == ["we", "go"]

    def test_the_same_word_said_again_later_is_another(self) -> None:
        left = words(("no", 10.0, 10.3))
        right = words(("no", 11.5, 11.8))

        assert len(join_at_seam(left, right, overlap_s=(10, 12))) == 2

    def test_what_the_right_missed_is_taken_from_the_left(self) -> None:
        left = _in_a_row("a", "b", "c", "d", from_s=10)

        assert texts(join_at_seam(left, (), overlap_s=(10, 12))) == ["a", "b", "c", "d"]
        assert texts(join_at_seam(left, words(("e", 12.5, 13)), overlap_s=(10, 12))) == ["a", "b", "c", "d", "e"]

    def test_what_the_left_missed_is_taken_from_the_right(self) -> None:
        right = _in_a_row("b", "c", "d", "e", from_s=10)

        assert texts(join_at_seam((), right, overlap_s=(10, 12))) == ["b", "c", "d", "e"]
        assert texts(join_at_seam(words(("a", 8, 9)), right, overlap_s=(10, 12))) == ["a", "b", "c", "d", "e"]

    def test_an_end_that_is_too_late_swallows_nothing_behind_the_overlap(self) -> None:
        left = words(("a", 10.0, 15.0))
        right = words(("b", 12.1, 12.4), ("c", 12.5, 12.9))

        assert texts(join_at_seam(left, right, overlap_s=(6, 12))) == ["b", "c"]
        assert texts(join_at_seam(words(("a", 5.0, 12.5)), right, overlap_s=(7, 12))) == ["a", "b", "c"]

    @given(
        st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.floats(0, 1)), max_size=8),
        st.lists(st.tuples(st.sampled_from("abc"), st.floats(4, 9), st.floats(0, 1)), max_size=8),
        st.floats(3, 6),
        st.floats(0, 4),
    )
    def test_a_join_is_a_beginning_of_the_left_and_an_end_of_the_right(
        self,
        left: list[tuple[str, float, float]],
        right: list[tuple[str, float, float]],
        begin_s: float,
        lasts_s: float,
    ) -> None:
        before = words(*((f"{text}", at_s, at_s + for_s) for text, at_s, for_s in left))
        after = words(*((f"{text}", at_s, at_s + for_s) for text, at_s, for_s in right))

        joined = join_at_seam(before, after, overlap_s=(begin_s, begin_s + lasts_s))

        ways = [(*before[:i], *after[j:]) for i in range(len(before) + 1) for j in range(len(after) + 1)]
        assert joined in ways


class TestSettled:
    @given(_seams(jitter_s=_JITTER_S), _seams(jitter_s=_JITTER_S, vocabulary=["no", "No.", "very", "w1", "w2"]))
    def test_words_stay_whatever_comes(self, seam: _Seam, other: _Seam) -> None:
        for left, right in ((seam.left, seam.right), (seam.left, other.right), (other.left, seam.right)):
            count = finalized_count(left, overlap_s=seam.overlap_s)
            at_hand = tuple(one for one in right if one.start_s >= seam.overlap_s[0])
            assert join_at_seam(left, at_hand, overlap_s=seam.overlap_s)[:count] == left[:count]
            assert (
                *left[:count],
                *join_at_seam(left[count:], at_hand, overlap_s=seam.overlap_s),
            ) == join_at_seam(left, at_hand, overlap_s=seam.overlap_s)

    def test_are_those_that_no_other_reading_can_meet(self) -> None:
        left = _in_a_row("a", "b", "c", "d")
        assert finalized_count(left, overlap_s=(1.5, 2.0)) == 2

    def test_are_all_before_a_later_overlap(self) -> None:
        assert finalized_count(_in_a_row("a", "b"), overlap_s=(3.0, 4.0)) == 2

    def test_are_all_where_nothing_is_read_again(self) -> None:
        assert finalized_count(_in_a_row("a", "b"), overlap_s=(0.2, 0.2)) == 2


class TestNoOverlap:
    def test_all_words_are_kept_in_order(self) -> None:
        left, right = words(("a", 0, 1), ("b", 1.7, 2.1)), words(("b", 2, 3), ("c", 1, 2))

        assert join_at_seam(left, right, overlap_s=(2, 2)) == (*left, *right)
        assert join_at_seam(left, right, overlap_s=(2, 1.9)) == (*left, *right)

    def test_nothing_and_nothing_is_nothing(self) -> None:
        assert join_at_seam((), (), overlap_s=(0, 0)) == ()
        assert join_at_seam((), (), overlap_s=(0, 2)) == ()
