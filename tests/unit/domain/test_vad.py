import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.errors import InvalidRequestError
from parakeet_service.domain.vad import FrameRange, VadEndpointer, VadParams, VadScores

_FRAME_S = 0.05
_TAIL = _BREATH = 4
_SHORTEST = 2

_probabilities = st.lists(
    st.tuples(st.sampled_from([0.0, 0.05, 0.15, 0.25, 1.0]), st.integers(1, 30)), max_size=12
).map(lambda runs: [probability for probability, length in runs for _ in range(length)])
_detections = st.builds(
    VadParams,
    threshold=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    prefix_padding_s=st.sampled_from([0.0, 0.1, 0.3, 2.0]),
    silence_s=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)


def _spans(
    detection: VadParams, probabilities: list[float], *pushes: int, long_s: float = math.inf
) -> list[tuple[int, int]]:
    """The spans, put together from their stretches; each stretch is checked on the way."""
    spans, found, stretches = (
        list[tuple[int, int]](),
        VadEndpointer(detection, frame_s=_FRAME_S, long_s=long_s),
        list[FrameRange](),
    )

    for begin, end in pairwise([0, *sorted(min(push, len(probabilities)) for push in pushes), len(probabilities)]):
        settled = found.finalized_until
        new = found.detect(probabilities[begin:end])
        assert all(stretch.begin >= settled for stretch in new)
        stretches += new
        assert found.finalized_until <= found.frames == end
        assert all(stretch.end <= end for stretch in stretches)
    stretches += found.finish()
    assert found.finish() == []

    first: int | None = None
    for last, stretch in pairwise([FrameRange(0, 0, closes=True), *stretches]):
        assert stretch.begin <= stretch.end
        assert stretch.begin >= last.end if last.closes else stretch.begin == last.end
        first = stretch.begin if first is None else first
        if stretch.closes:
            spans.append((first, stretch.end))
            first = None
    assert first is None
    return spans


def _by_the_book(detection: VadParams, probabilities: list[float], long_s: float = math.inf) -> list[tuple[int, int]]:
    """The same, seen from the end of the recording."""
    runs = list[list[int]]()
    speaking = False
    for at, probability in enumerate(probabilities):
        was, speaking = speaking, probability >= detection.threshold / (2 if speaking else 1)
        if speaking and was:
            runs[-1][1] = at + 1
        elif speaking:
            runs.append([at, at + 1])
    silence = max(math.ceil(detection.silence_s / _FRAME_S), 1)
    breath = min(_BREATH, silence)
    prefix = math.ceil(detection.prefix_padding_s / _FRAME_S)
    spans, last = list[tuple[int, int]](), 0
    for begin, end in runs:
        if spans:
            pause = silence if last - spans[-1][0] < long_s / _FRAME_S else breath
            if begin - last < pause:
                spans[-1] = (spans[-1][0], end + min(_TAIL, breath))
                last = end
                continue
        if end - begin >= _SHORTEST:
            spans.append((max(begin - prefix, spans[-1][1] if spans else 0), end + min(_TAIL, breath)))
            last = end
    return [(begin, min(end, len(probabilities))) for begin, end in spans]


class TestSpans:
    @given(
        _detections,
        _probabilities,
        st.lists(st.integers(0, 300), max_size=6),
        st.sampled_from([0.0, 0.5, 2.0, math.inf]),
    )
    def test_are_those_by_the_book_however_the_probabilities_arrive(
        self, detection: VadParams, probabilities: list[float], pushes: list[int], long_s: float
    ) -> None:
        found = _spans(detection, probabilities, *pushes, long_s=long_s)

        assert found == _by_the_book(detection, probabilities, long_s)

    @given(_detections, _probabilities)
    def test_hold_all_speech_that_is_long_enough(self, detection: VadParams, probabilities: list[float]) -> None:
        kept = {at for begin, end in _spans(detection, probabilities) for at in range(begin, end)}
        loud = [probability >= detection.threshold for probability in probabilities]

        assert all(at in kept for at in range(1, len(loud)) if loud[at - 1] and loud[at])

    def test_of_silence_there_are_none(self) -> None:
        assert _spans(VadParams(), [0.0] * 100) == []
        assert _spans(VadParams(), []) == []

    def test_begin_early_and_end_late(self) -> None:
        assert _spans(VadParams(), [0.0] * 50 + [1.0] * 20 + [0.0] * 50) == [(48, 74)]

    def test_stay_inside_the_recording(self) -> None:
        assert _spans(VadParams(), [0.0] + [1.0] * 20 + [0.0] * 2) == [(0, 23)]

    def test_a_click_opens_none(self) -> None:
        assert _spans(VadParams(), [0.0] * 20 + [1.0] + [0.0] * 20) == []
        assert _spans(VadParams(), [0.0] * 20 + [1.0] * 2 + [0.0] * 20) == [(18, 26)]

    def test_many_clicks_open_none(self) -> None:
        assert _spans(VadParams(), [0.0, 1.0] * 50) == []

    def test_a_soft_end_is_speech_where_a_soft_beginning_is_none(self) -> None:
        detection = VadParams(threshold=0.5, prefix_padding_s=0, silence_s=0)

        assert _spans(detection, [0.3] * 5 + [0.6] * 5 + [0.3] * 5 + [0.2] * 5) == [(5, 16)]

    @pytest.mark.parametrize(("pause", "count"), [(15, 1), (16, 2)])
    def test_a_pause_parts_them_if_it_is_long_enough(self, pause: int, count: int) -> None:
        assert len(_spans(VadParams(), [1.0] * 10 + [0.0] * pause + [1.0] * 10)) == count

    @pytest.mark.parametrize(("pause", "count"), [(3, 1), (4, 2)])
    def test_a_breath_parts_one_that_is_long(self, pause: int, count: int) -> None:
        spoken = [1.0] * 20 + [0.0] * pause + [1.0] * 10

        assert len(_spans(VadParams(), spoken, long_s=1.0)) == count
        assert len(_spans(VadParams(), spoken, long_s=1.1)) == 1

    def test_neighbours_do_not_overlap(self) -> None:
        detection = VadParams(prefix_padding_s=5, silence_s=0.2)

        assert _spans(detection, [1.0] * 10 + [0.0] * 6 + [1.0] * 10) == [(0, 14), (14, 26)]

    def test_are_given_while_speech_goes_on(self) -> None:
        spans = VadEndpointer(VadParams(), frame_s=_FRAME_S)

        assert spans.detect([1.0] * 30) == [FrameRange(0, 30, closes=False)]
        assert spans.detect([1.0] * 5) == [FrameRange(30, 35, closes=False)]
        assert spans.detect([0.0] * 15) == [FrameRange(35, 39, closes=False)]
        assert spans.detect([0.0] * 20) == [FrameRange(39, 39, closes=True)]

    def test_no_more_than_the_padding_and_the_pause_is_unsettled(self) -> None:
        spans = VadEndpointer(VadParams(), frame_s=_FRAME_S)
        for probability in [0.0] * 100 + [1.0] * 100 + [0.0] * 100:
            spans.detect([probability])
            assert spans.frames - spans.finalized_until <= 2 + 40


class TestDetection:
    @pytest.mark.parametrize(
        ("param", "value"),
        [
            ("threshold", -0.1),
            ("threshold", 1.1),
            ("threshold", math.nan),
            ("prefix_padding_s", -1.0),
            ("prefix_padding_s", 61.0),
            ("silence_s", -1.0),
            ("silence_s", math.inf),
        ],
    )
    def test_refuses_what_cannot_be(self, param: str, value: float) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            VadParams(**{param: value})

        assert caught.value.details["param"] == param

    def test_takes_the_bounds(self) -> None:
        assert VadParams(threshold=0, prefix_padding_s=0, silence_s=0)
        assert VadParams(threshold=1, prefix_padding_s=60, silence_s=60)


class TestCurve:
    def _curve(self, *probabilities: float) -> VadScores:
        return VadScores(np.array(probabilities, np.float32), 0.5)

    def test_tells_how_likely_nobody_speaks(self) -> None:
        curve = self._curve(0.0, 0.25, 0.75, 1.0)

        assert curve.no_speech(0.5, 1.5) == pytest.approx(0.5)
        assert curve.no_speech(0.6, 1.1) == pytest.approx(0.5)
        assert curve.no_speech(1.5, 2.0) == pytest.approx(0.0)

    def test_of_no_time_is_that_of_the_frame_there(self) -> None:
        assert self._curve(0.0, 0.25, 1.0).no_speech(0.5, 0.5) == pytest.approx(0.75)

    def test_behind_the_last_frame_is_that_of_the_last(self) -> None:
        assert self._curve(0.0, 0.25).no_speech(1.2, 1.3) == pytest.approx(0.75)

    def test_of_no_frame_is_certain(self) -> None:
        assert self._curve().no_speech(0.0, 1.0) == 1.0
