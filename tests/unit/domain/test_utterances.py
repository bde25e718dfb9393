from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.live import Cleared, EndCause, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from parakeet_service.domain.transcript import Token
from parakeet_service.domain.utterances import UtteranceTracker
from tests.unit.domain.spoken import texts, times, token, words

_ENDPOINT_S = 0.8
_LONGEST_S = 6.0


def _tracker(*, longest_s: float = _LONGEST_S) -> UtteranceTracker:
    return UtteranceTracker(Endpointing(silence_s=_ENDPOINT_S), longest_s=longest_s)


def _news(finalized: Sequence[Token] = (), draft: Sequence[Token] = (), *, decoded_s: float) -> Hypothesis:
    return Hypothesis(tuple(finalized), tuple(draft), finalized_until_s=0, decoded_until_s=decoded_s)


def _finals(events: Iterable[LiveEvent]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


_A = token(" a", 1.0, 1.4)
_B = token(" b", 1.5, 1.9)
_C = token(" c", 2.0, 2.4)
_FAR = token(" far", 4.0, 4.4)


@dataclass(frozen=True)
class _Flush:
    hypothesis: Hypothesis


_Step = Hypothesis | _Flush


@st.composite
def _said(draw: st.DrawFn) -> tuple[Token, ...]:
    """Tokens in order, no two at a time, with a pause now and then; the first one begins a word."""
    spoken = [" x", *draw(st.lists(st.sampled_from([" a", " b", "c", "d", ",", ".", ' "', " ", ""]), max_size=25))]
    tokens: list[Token] = []
    at_s = 0.0
    for number, text in enumerate(spoken):
        at_s += draw(st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0, 3.0]))
        lasts_s = draw(st.sampled_from([0.0, 0.1, 0.4]))
        tokens.append(Token(number, text, at_s, at_s + lasts_s, 1.0))
        at_s += lasts_s
    return tuple(tokens)


@st.composite
def _streams(draw: st.DrawFn) -> list[_Step]:
    """A stream that keeps the promises of `Hypothesis`, with flushes anywhere, and one at the end."""
    tokens = draw(_said())
    known, decoded_s = 0, 0.0
    steps: list[_Step] = []
    plans = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4)), max_size=10))
    for taken, ahead, whim in [*plans, (len(tokens), 0, 0)]:
        flushes = whim == 0
        until = min(known + taken, len(tokens))
        drafted: list[Token] = []
        if flushes:
            until = max(until, sum(one.start_s < decoded_s for one in tokens))
        else:
            drafted = [
                replace(one, text=draw(st.sampled_from([one.text, " um", "ish", "?"])))
                for one in tokens[until : until + ahead]
            ]
        decoded_s = max([decoded_s, *(one.end_s for one in tokens[: until + len(drafted)])])
        if whim == 1 and until < len(tokens):
            decoded_s = max(decoded_s, tokens[until].start_s)
        news = _news(tokens[known:until], drafted, decoded_s=decoded_s)
        steps.append(_Flush(news) if flushes else news)
        known = until
    return steps


def _run(steps: Iterable[_Step], tracker: UtteranceTracker) -> list[LiveEvent]:
    events: list[LiveEvent] = []
    for step in steps:
        if isinstance(step, _Flush):
            events += tracker.step(step.hypothesis, received_s=step.hypothesis.decoded_until_s)
            events += tracker.finish(EndCause.ASKED)
        else:
            events += tracker.step(step, received_s=step.decoded_until_s)
    return events


def _utterances(events: Iterable[LiveEvent]) -> list[tuple[list[Partial], Final]]:
    """What was told of each utterance."""
    told: list[tuple[list[Partial], Final]] = []
    partials: list[Partial] = []
    for event in events:
        if isinstance(event, Partial):
            partials.append(event)
        elif isinstance(event, Final):
            told.append((partials, event))
            partials = []
    assert not partials
    return told


class TestForAnyStream:
    @given(_streams())
    def test_stable_words_never_change(self, steps: list[_Step]) -> None:
        for partials, final in _utterances(_run(steps, _tracker())):
            readings = [*(partial.stable for partial in partials), final.words]
            for earlier, later in pairwise(readings):
                assert later[: len(earlier)] == earlier

    @given(_streams())
    def test_each_finalized_token_is_in_one_final(self, steps: list[_Step]) -> None:
        hypotheses = [step.hypothesis if isinstance(step, _Flush) else step for step in steps]
        finalized = [one for hypothesis in hypotheses for one in hypothesis.finalized]
        said = [one for final in _finals(_run(steps, _tracker())) for w in final.words for one in w.tokens]

        # A mark that follows nothing, since the utterance has ended, may be left out.
        kept = [one for one in finalized if one in said or one.text.strip(' .,"')]
        assert said == kept

    @given(_streams())
    def test_utterances_are_counted(self, steps: list[_Step]) -> None:
        finals = _finals(_run(steps, _tracker()))

        assert [final.utterance for final in finals] == list(range(len(finals)))

    @given(_streams())
    def test_speech_starts_and_stops_by_turns(self, steps: list[_Step]) -> None:
        speaking = False
        for event in _run(steps, _tracker()):
            match event:
                case SpeechStarted():
                    assert not speaking
                    speaking = True
                case SpeechStopped():
                    assert speaking
                    speaking = False
                case Partial():
                    assert speaking
                case Final():
                    assert not speaking
                case Cleared():
                    pytest.fail("nobody asked for it")
        assert not speaking

    @given(_streams())
    def test_finals_are_in_order_and_do_not_overlap(self, steps: list[_Step]) -> None:
        spoken = [edge for final in _finals(_run(steps, _tracker())) for span in times(final.words) for edge in span]

        assert spoken == sorted(spoken)

    @given(_streams())
    def test_no_partial_is_told_twice(self, steps: list[_Step]) -> None:
        for partials, _ in _utterances(_run(steps, _tracker())):
            assert all(
                (one.stable, one.draft) != (following.stable, following.draft) for one, following in pairwise(partials)
            )

    @given(_said(), st.lists(st.integers(0, 5), max_size=20))
    def test_the_grouping_of_finalized_tokens_does_not_matter(
        self, tokens: tuple[Token, ...], sizes: list[int]
    ) -> None:
        # It does matter where the caller ends utterances by `paused`: that depends on when it looks.
        last_s = tokens[-1].end_s
        steps: list[_Step] = []
        known = 0
        for size in sizes:
            taken = tokens[known : known + size]
            known += len(taken)
            steps.append(_news(taken, decoded_s=max(one.end_s for one in tokens[: max(known, 1)])))
        steps.append(_Flush(_news(tokens[known:], decoded_s=last_s)))

        finals = _finals(_run(steps, _tracker()))

        assert finals == _finals(_run([_Flush(_news(tokens, decoded_s=last_s))], _tracker()))


class TestStep:
    def test_silence_is_no_news(self) -> None:
        assert _tracker().step(_news(decoded_s=1), received_s=1) == []

    def test_a_first_word_starts_the_speech(self) -> None:
        assert _tracker().step(_news(draft=[_A], decoded_s=2), received_s=3.5) == [
            SpeechStarted(1.0),
            Partial((), words(("a", 1.0, 1.4)), behind_s=1.5),
        ]

    def test_is_never_ahead_of_what_was_received(self) -> None:
        _, partial = _tracker().step(_news(draft=[_A], decoded_s=2), received_s=1)

        assert isinstance(partial, Partial)
        assert partial.behind_s == 0

    def test_the_last_finalized_word_is_not_stable_yet(self) -> None:
        _, partial = _tracker().step(_news([_A, _B], [_C], decoded_s=3), received_s=3)

        assert isinstance(partial, Partial)
        assert (texts(partial.stable), texts(partial.draft)) == (["a"], ["b", "c"])
        assert (partial.text, partial.draft_text) == ("a b c", "b c")

    def test_a_comma_still_clings_to_the_last_finalized_word(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], decoded_s=2), received_s=2)

        (partial,) = tracker.step(_news([token(",", 1.4, 1.5)], decoded_s=3), received_s=3)

        assert isinstance(partial, Partial)
        assert (texts(partial.stable), texts(partial.draft)) == ([], ["a,"])

    def test_tells_only_what_is_new(self) -> None:
        tracker = _tracker()
        tracker.step(_news(draft=[_A, _B], decoded_s=2), received_s=2)

        assert tracker.step(_news(draft=[_A, _B], decoded_s=2.5), received_s=2.5) == []

    def test_a_word_that_becomes_stable_is_news(self) -> None:
        tracker = _tracker()
        tracker.step(_news(draft=[_A, _B], decoded_s=2), received_s=2)

        (partial,) = tracker.step(_news([_A, _B], decoded_s=2.5), received_s=2.5)

        assert isinstance(partial, Partial)
        assert texts(partial.stable) == ["a"]

    def test_a_draft_may_be_taken_back(self) -> None:
        tracker = _tracker()
        tracker.step(_news(draft=[_A], decoded_s=2), received_s=2)

        assert tracker.step(_news(decoded_s=2.5), received_s=3) == [Partial((), (), behind_s=0.5)]
        assert tracker.step(_news(decoded_s=3), received_s=3) == []
        assert tracker.step(_news(draft=[_C], decoded_s=3.5), received_s=3.5) == [
            Partial((), words(("c", 2.0, 2.4)), behind_s=0.0)
        ]

    def test_a_pause_between_finalized_words_ends_the_utterance(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A, _B], decoded_s=2), received_s=2)

        assert tracker.step(_news([_FAR], decoded_s=5), received_s=5) == [
            SpeechStopped(1.9),
            Final(words(("a", 1.0, 1.4), ("b", 1.5, 1.9)), 0, EndCause.SILENCE),
            SpeechStarted(4.0),
            Partial((), words(("far", 4.0, 4.4)), behind_s=0.0),
        ]

    def test_a_pause_before_a_draft_does_not(self) -> None:
        assert not _finals(_tracker().step(_news([_A, _B], [_FAR], decoded_s=5), received_s=5))

    def test_one_step_may_end_many_utterances(self) -> None:
        spoken = [token(f" w{at}", at * 2, at * 2 + 1) for at in range(4)]

        finals = _finals(_tracker().step(_news(spoken, decoded_s=9), received_s=9))

        assert [final.text for final in finals] == ["w0", "w1", "w2"]

    @pytest.mark.parametrize(("pause_s", "count"), [(0.79, 0), (0.81, 1)])
    def test_the_pause_must_be_as_long_as_was_asked_for(self, pause_s: float, count: int) -> None:
        spoken = [_A, token(" b", 1.4 + pause_s, 3)]

        assert len(_finals(_tracker().step(_news(spoken, decoded_s=9), received_s=9))) == count

    def test_no_utterance_is_longer_than_it_may_be(self) -> None:
        spoken = [token(f" w{at}", at, at + 1) for at in range(5)]

        finals = _finals(_tracker(longest_s=3).step(_news(spoken, decoded_s=9), received_s=9))

        assert [final.text for final in finals] == ["w0 w1 w2"]

    def test_the_cut_of_a_long_one_changes_no_times(self) -> None:
        tracker = _tracker(longest_s=2)
        spoken = [token(" a", 0, 1.5), token(" b", 1, 1.6), token(" c", 1.7, 1.8)]
        (_, partial) = tracker.step(_news(spoken, decoded_s=2), received_s=2)
        assert isinstance(partial, Partial)

        (final,) = _finals(tracker.step(_news([token(" d", 1.75, 2.5)], decoded_s=3), received_s=3))

        assert partial.stable == final.words[:2]
        assert times(final.words) == [(0, 1), (1, 1.6), (1.7, 1.75)]


class TestBegin:
    def test_tells_of_speech_before_any_word(self) -> None:
        tracker = _tracker()

        assert tracker.begin(0.9) == [SpeechStarted(0.9)]
        assert tracker.speaking
        assert tracker.begin(1.0) == []
        assert tracker.step(_news(decoded_s=1.2), received_s=2) == []
        assert tracker.step(_news(draft=[_A], decoded_s=2), received_s=2) == [
            Partial((), words(("a", 1.0, 1.4)), behind_s=0.0)
        ]

    def test_of_what_was_no_word_ends_in_an_empty_final(self) -> None:
        tracker = _tracker()
        tracker.begin(0.9)
        tracker.step(_news(decoded_s=1.2), received_s=2)

        assert tracker.stop(1.1) == [SpeechStopped(1.1)]
        assert tracker.finish(EndCause.SILENCE) == [Final((), 0, EndCause.SILENCE)]
        assert not tracker.speaking


class TestStop:
    def test_is_told_once(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], decoded_s=2), received_s=2)

        assert tracker.stop(1.5) == [SpeechStopped(1.5)]
        assert tracker.stop(1.6) == []
        assert tracker.finish(EndCause.SILENCE) == [Final(words(("a", 1.0, 1.4)), 0, EndCause.SILENCE)]

    def test_of_nothing_is_no_news(self) -> None:
        assert _tracker().stop(1.0) == []

    def test_does_not_lie_before_the_start(self) -> None:
        tracker = _tracker()
        tracker.begin(2.0)

        assert tracker.stop(1.0) == [SpeechStopped(2.0)]


class TestClear:
    def test_forgets_the_words(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], [_B], decoded_s=2), received_s=2)
        tracker.clear()

        assert not tracker.speaking
        assert tracker.step(_news([_C], decoded_s=3), received_s=3)[0] == SpeechStarted(2.0)
        assert texts(_finals(tracker.finish(EndCause.ASKED))[0].words) == ["c"]


class TestComplete:
    @pytest.mark.parametrize(("last", "complete"), [("b.", True), ("b?", True), ('b!"', True), ("b,", False)])
    def test_is_what_ends_like_a_sentence(self, last: str, *, complete: bool) -> None:
        tracker = _tracker()
        assert not tracker.reads_complete

        tracker.step(_news([_A], [token(f" {last}", 1.5, 1.9)], decoded_s=2), received_s=2)

        assert tracker.reads_complete == complete

    @pytest.mark.parametrize(("last", "paused"), [("b.", True), ("b", False)])
    def test_a_sentence_ends_an_utterance_sooner(self, last: str, *, paused: bool) -> None:
        tracker = UtteranceTracker(Endpointing(silence_s=2.0, complete_s=0.5))
        tracker.step(_news([_A], [token(f" {last}", 1.5, 1.9)], decoded_s=2.5), received_s=3)

        assert tracker.paused == paused


class TestWithoutAnEndpoint:
    def test_only_the_longest_utterance_ends_by_itself(self) -> None:
        tracker = UtteranceTracker(Endpointing(silence_s=None), longest_s=_LONGEST_S)

        assert not _finals(tracker.step(_news([_A, _FAR], decoded_s=99), received_s=99))
        assert not tracker.paused
        (final,) = _finals(tracker.step(_news([token(" late", 50, 51)], decoded_s=99), received_s=99))
        assert (final.text, final.cause) == ("a far", EndCause.LENGTH)


class TestPaused:
    def test_in_doubt_later(self) -> None:
        believing, doubting = _tracker(), UtteranceTracker(Endpointing(silence_s=_ENDPOINT_S), doubt_s=0.2)
        for tracker in (believing, doubting):
            tracker.step(_news([_A], decoded_s=2.3), received_s=9)

        assert believing.paused
        assert not doubting.paused
        assert _finals(believing.step(_news([token(" b", 2.3, 2.4)], decoded_s=2.4), received_s=9))
        assert not _finals(doubting.step(_news([token(" b", 2.3, 2.4)], decoded_s=2.4), received_s=9))

    def test_where_no_word_is_read_after_a_while(self) -> None:
        tracker = _tracker()
        tracker.begin(1.0)
        tracker.step(_news(decoded_s=3.9), received_s=4)
        assert not tracker.paused

        tracker.step(_news(decoded_s=4.1), received_s=5)
        assert tracker.paused

    def test_not_before_anything_was_said(self) -> None:
        tracker = _tracker()
        tracker.step(_news(decoded_s=9), received_s=9)

        assert not tracker.paused

    @pytest.mark.parametrize(("decoded_s", "paused"), [(2.6, False), (2.71, True)])
    def test_counts_the_silence_behind_the_last_word(self, decoded_s: float, *, paused: bool) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], [_B], decoded_s=decoded_s), received_s=9)

        assert tracker.paused == paused

    def test_not_after_the_end(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], decoded_s=9), received_s=9)
        tracker.finish(EndCause.ASKED)

        assert not tracker.paused


class TestFinish:
    def test_ends_the_utterance(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A], decoded_s=2), received_s=2)

        assert tracker.finish(EndCause.ASKED) == [SpeechStopped(1.4), Final(words(("a", 1.0, 1.4)), 0, EndCause.ASKED)]

    def test_of_words_just_heard_starts_it_too(self) -> None:
        tracker = _tracker()
        tracker.step(_news([_A, _FAR], decoded_s=5), received_s=5)
        assert [type(event) for event in tracker.finish(EndCause.ASKED)] == [SpeechStopped, Final]

        other = _tracker()
        events = other.step(_news([_A, _B, _FAR], decoded_s=5), received_s=5)
        assert events[:2] == [SpeechStarted(1.0), SpeechStopped(1.9)]

    def test_of_nothing_is_an_empty_final_of_its_own(self) -> None:
        tracker = _tracker()

        assert tracker.finish(EndCause.ASKED) == [Final((), 0, EndCause.ASKED)]
        tracker.step(_news([_A], decoded_s=2), received_s=2)
        assert [final.utterance for final in _finals(tracker.finish(EndCause.ASKED))] == [1]
        assert Final((), 0, EndCause.ASKED).text == ""

    def test_a_later_word_does_not_reach_back(self) -> None:
        tracker = _tracker()
        tracker.step(_news([token(" a", 1, 2)], decoded_s=2), received_s=2)
        tracker.finish(EndCause.ASKED)

        tracker.step(_news([token(" b", 1.5, 3)], decoded_s=3), received_s=3)

        (final,) = _finals(tracker.finish(EndCause.ASKED))
        assert times(final.words) == [(2, 3)]

    def test_blank_tokens_are_no_utterance(self) -> None:
        tracker = _tracker()
        tracker.step(_news([token(" ", 1)], decoded_s=2), received_s=2)

        assert tracker.finish(EndCause.ASKED) == [Final((), 0, EndCause.ASKED)]

    def test_a_blank_token_takes_no_word_into_the_next_utterance(self) -> None:
        tracker = _tracker()
        tracker.step(_news([token(" ", 0.9), _A], decoded_s=2), received_s=2)

        assert [final.text for final in _finals(tracker.finish(EndCause.ASKED))] == ["a"]
        assert tracker.finish(EndCause.ASKED) == [Final((), 1, EndCause.ASKED)]
