import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from parakeet_service.domain.audio import Samples
from parakeet_service.domain.chunking import AudioWindow, SpeechCutter, WindowCutter, quietest_place
from parakeet_service.domain.vad import VadEndpointer, VadParams
from parakeet_service.domain.vad_gate import VadGate

_RATE_HZ = 1000


def _noise(length: int) -> Samples:
    return np.random.default_rng(7).uniform(-0.5, 0.5, length).astype(np.float32)


def _speech(length: int, *pauses: tuple[int, int]) -> Samples:
    """Noise, but for the pauses ``[begin, end)``."""
    samples = _noise(length)
    for begin, end in pauses:
        samples[begin:end] *= 0.001
    return samples


def _cutter(longest: int = 1000, overlap: int = 200) -> WindowCutter:
    return WindowCutter(sample_rate_hz=_RATE_HZ, longest_s=longest / _RATE_HZ, overlap_s=overlap / _RATE_HZ)


def _cut(samples: Samples, cutter: WindowCutter, *block_lengths: int) -> list[AudioWindow]:
    windows: list[AudioWindow] = []
    for block in np.split(samples, np.cumsum(block_lengths)):
        windows += cutter.cut(block)
    return windows + cutter.finish()


def _start(window: AudioWindow) -> int:
    return round(window.start_s * _RATE_HZ)


def _seam(window: AudioWindow) -> int:
    return round(window.seam_s * _RATE_HZ)


def _end(window: AudioWindow) -> int:
    return _start(window) + len(window.samples)


def _spans(windows: Sequence[AudioWindow]) -> list[tuple[int, int, int]]:
    return [(_start(window), _seam(window), _end(window)) for window in windows]


@dataclass(frozen=True)
class _Case:
    samples: Samples
    longest: int
    overlap: int
    blocks: tuple[int, ...]


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    longest = draw(st.integers(1, 1500))
    length = draw(st.integers(0, 6 * longest))
    places = st.tuples(st.integers(0, max(length, 1)), st.integers(1, 400))
    pauses = draw(st.lists(places, max_size=8))
    return _Case(
        samples=_speech(length, *((begin, begin + pause) for begin, pause in pauses)),
        longest=longest,
        overlap=draw(st.integers(0, 2 * longest)),
        blocks=tuple(draw(st.lists(st.integers(0, 1 + 2 * longest), max_size=30))),
    )


def _for_any_recording(test: Callable[..., None]) -> Callable[..., None]:
    hard = [
        _Case(_speech(1501), 1000, 500, ()),
        _Case(_speech(2999), 1000, 500, (1500,)),
        _Case(_speech(4000, (0, 4000)), 1000, 500, (700,)),
        _Case(_speech(8), 1, 1, (1, 1, 3)),
    ]
    for case in hard:
        test = example(case=case)(test)
    return given(case=_cases())(test)


class TestForAnyRecording:
    @_for_any_recording
    def test_blocks_of_any_size_make_the_same_windows(self, case: _Case) -> None:
        whole = _cut(case.samples, _cutter(case.longest, case.overlap))
        split = _cut(case.samples, _cutter(case.longest, case.overlap), *case.blocks)

        assert _spans(split) == _spans(whole)
        for one, other in zip(split, whole, strict=True):
            np.testing.assert_array_equal(one.samples, other.samples)

    @_for_any_recording
    def test_the_windows_own_parts_are_the_recording(self, case: _Case) -> None:
        windows = _cut(case.samples, _cutter(case.longest, case.overlap), *case.blocks)

        seams = [_seam(window) for window in windows]
        ends = [_end(window) for window in windows]
        assert [0, *ends][: len(windows)] == seams
        assert [*ends, 0][-2 if windows else -1] == len(case.samples)
        assert all(seam < end for seam, end in zip(seams, ends, strict=True))
        for window in windows:
            np.testing.assert_array_equal(window.samples, case.samples[_start(window) : _end(window)])

    @_for_any_recording
    def test_windows_share_the_overlap_or_nothing(self, case: _Case) -> None:
        windows = _cut(case.samples, _cutter(case.longest, case.overlap), *case.blocks)

        shared = {_seam(window) - _start(window) for window in windows}
        assert shared <= {0, min(case.overlap, case.longest // 2)}

    @_for_any_recording
    def test_no_window_is_too_long_and_none_a_splinter(self, case: _Case) -> None:
        lengths = [len(w.samples) for w in _cut(case.samples, _cutter(case.longest, case.overlap), *case.blocks)]

        assert all(length <= case.longest for length in lengths)
        assert all(length >= min(len(case.samples), case.longest // 4) for length in lengths)

    @_for_any_recording
    def test_keeps_no_more_than_one_and_a_half_windows(self, case: _Case) -> None:
        starts = [_start(window) for window in _cut(case.samples, _cutter(case.longest, case.overlap))]
        cutter = _cutter(case.longest, case.overlap)
        given_out = received = 0
        for block in np.split(case.samples, np.cumsum(case.blocks)):
            given_out += len(cutter.cut(block))
            received += len(block)
            kept = received - [*starts, received][given_out]
            assert kept <= 1.5 * case.longest


class TestWhereItCuts:
    def test_a_short_recording_is_one_window(self) -> None:
        assert _spans(_cut(_noise(1000), _cutter())) == [(0, 0, 1000)]

    def test_nothing_is_no_window(self) -> None:
        assert _cutter().finish() == []
        assert _cut(_noise(0), _cutter()) == []

    def test_gives_a_window_as_soon_as_half_of_the_next_has_come(self) -> None:
        cutter = _cutter()

        assert cutter.cut(_noise(1499)) == []
        assert _spans(cutter.cut(_noise(1))) == [(0, 0, 1000)]

    def test_a_block_may_hold_many_windows(self) -> None:
        assert len(_cutter(overlap=0).cut(_noise(5000))) == 4

    @pytest.mark.parametrize("begin", [510, 650, 740])
    def test_cuts_in_a_pause(self, begin: int) -> None:
        first, second = _cut(_speech(1510, (begin, begin + 250)), _cutter())

        assert begin <= _end(first) <= begin + 250
        assert _start(second) == _seam(second) == _end(first)

    @pytest.mark.parametrize("begin", [600, 700])
    def test_cuts_the_rest_in_a_pause_too(self, begin: int) -> None:
        first, second = _cut(_speech(1300, (begin, begin + 220)), _cutter(overlap=100))

        assert begin <= _end(first) <= begin + 220
        assert _start(second) == _seam(second) == _end(first)

    def test_prefers_the_quieter_of_two_pauses(self) -> None:
        samples = _speech(1700, (520, 720), (760, 980))
        samples[760:980] = 0

        assert 760 <= _end(_cut(samples, _cutter())[0]) <= 980

    def test_a_pause_in_the_first_half_is_left_alone(self) -> None:
        assert _end(_cut(_speech(1700, (100, 400)), _cutter())[0]) == 1000

    def test_speech_without_a_pause_is_read_twice(self) -> None:
        assert _spans(_cut(_noise(2000), _cutter())) == [(0, 0, 1000), (800, 1000, 1750), (1550, 1750, 2000)]

    def test_without_overlap_nothing_is_read_twice(self) -> None:
        assert _spans(_cut(_noise(2500), _cutter(overlap=0))) == [(0, 0, 1000), (1000, 1000, 2000), (2000, 2000, 2500)]

    def test_an_overlap_is_at_most_half_a_window(self) -> None:
        assert _spans(_cut(_noise(1600), _cutter(overlap=900))) == [(0, 0, 1000), (500, 1000, 1350), (850, 1350, 1600)]

    def test_a_rest_that_is_too_long_is_two_windows_without_a_splinter(self) -> None:
        assert _spans(_cut(_noise(1001), _cutter())) == [(0, 0, 751), (551, 751, 1001)]

    def test_a_pause_that_would_leave_too_much_behind_it_is_left_alone(self) -> None:
        assert _spans(_cut(_speech(1450, (260, 480)), _cutter())) == [(0, 0, 1000), (800, 1000, 1450)]

    def test_a_pause_that_would_make_a_splinter_is_left_alone(self) -> None:
        assert _spans(_cut(_speech(1010, (20, 230)), _cutter(overlap=0))) == [(0, 0, 760), (760, 760, 1010)]

    def test_silence_is_cut_without_overlap(self) -> None:
        windows = _cut(_speech(5000, (0, 5000)) * 0, _cutter())

        assert all(_start(window) == _seam(window) for window in windows)


class TestMemory:
    def test_a_window_does_not_hold_more_than_its_own_samples(self) -> None:
        for window in _cut(_noise(5000), _cutter()):
            assert window.samples.base is None

    def test_a_block_is_let_go_when_it_has_been_cut(self) -> None:
        cutter = _cutter()
        block = _noise(5000)
        life = weakref.ref(block)

        windows = cutter.cut(block)
        del block

        assert len(windows) == 5
        assert life() is None


class TestQuietestPlace:
    def test_is_the_middle_of_the_pause(self) -> None:
        assert quietest_place(_speech(1000, (400, 600)), _RATE_HZ) == 500

    def test_may_lie_at_either_end(self) -> None:
        assert quietest_place(_speech(1000, (0, 200)), _RATE_HZ) == 100
        assert quietest_place(_speech(1000, (800, 1000)), _RATE_HZ) == 900

    def test_a_pause_must_be_long_enough(self) -> None:
        assert quietest_place(_speech(1000, (400, 550)), _RATE_HZ) is None
        assert quietest_place(_speech(1000, (400, 550)), _RATE_HZ, pause_s=0.1) is not None

    def test_there_is_none_where_all_is_equally_loud(self) -> None:
        assert quietest_place(_noise(1000), _RATE_HZ) is None

    def test_there_is_none_in_too_few_samples(self) -> None:
        assert quietest_place(np.zeros(199, np.float32), _RATE_HZ) is None
        assert quietest_place(np.zeros(200, np.float32), _RATE_HZ) == 100

    @pytest.mark.parametrize(("level", "is_quiet"), [(0.09, True), (0.11, False)])
    def test_quiet_is_a_tenth_of_what_is_loud(self, level: float, *, is_quiet: bool) -> None:
        samples = np.full(1000, 0.5, np.float32)
        samples[400:700] = 0.5 * level

        assert (quietest_place(samples, _RATE_HZ) is not None) == is_quiet

    def test_silence_is_quiet_though_all_is_silent(self) -> None:
        assert quietest_place(np.full(1000, 0.9e-5, np.float32), _RATE_HZ) == 100
        assert quietest_place(np.full(1000, 1.1e-5, np.float32), _RATE_HZ) is None


def test_neighbours_meet_in_samples_that_seconds_cannot_write_exactly() -> None:
    cutter = WindowCutter(sample_rate_hz=16_000, longest_s=0.7, overlap_s=0.1)
    windows = _cut(_noise(160_000), cutter, 33_333)

    for one, following in pairwise(windows):
        assert round(one.start_s * 16_000) + len(one.samples) == round(following.seam_s * 16_000)


class TestSpeech:
    _FRAME = 50
    _SILENCE_S = 0.6
    _PREFIX_S = 0.2

    def _gate(self) -> VadGate:
        detection = VadParams(threshold=0.5, prefix_padding_s=self._PREFIX_S, silence_s=self._SILENCE_S)
        return VadGate(VadEndpointer(detection, frame_s=self._FRAME / _RATE_HZ), frame=self._FRAME)

    def _cutter(self, *, longest: int = 1000) -> SpeechCutter:
        return SpeechCutter(sample_rate_hz=_RATE_HZ, longest_s=longest / _RATE_HZ, overlap_s=0.2)

    def _cut(
        self, samples: Samples, probabilities: Sequence[float], *lengths: int, longest: int = 1000
    ) -> list[AudioWindow]:
        """Cut blocks of these lengths, each with the probabilities of the frames that it completes."""
        gate, cutter, windows = self._gate(), self._cutter(longest=longest), list[AudioWindow]()
        received = told = 0
        for block in np.split(samples, np.cumsum(lengths)):
            received += len(block)
            windows += cutter.cut(gate.filter(block, probabilities[told : received // self._FRAME]))
            told = received // self._FRAME
        return windows + cutter.cut(gate.finish()) + cutter.finish()

    @given(
        st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=10),
        st.integers(0, 49),
        st.lists(st.integers(0, 2000), max_size=6),
    )
    def test_is_in_windows_and_nothing_else_is(
        self, runs: list[tuple[bool, int]], rest: int, lengths: list[int]
    ) -> None:
        probabilities = [float(spoken) for spoken, length in runs for _ in range(length)]
        samples = _noise(len(probabilities) * self._FRAME + rest)
        covered = np.zeros(len(samples), bool)
        for window in self._cut(samples, probabilities, *lengths):
            assert np.array_equal(window.samples, samples[_start(window) : _end(window)])
            assert not covered[_seam(window) : _end(window)].any()
            covered[_seam(window) : _end(window)] = True
        spans = VadEndpointer(
            VadParams(threshold=0.5, prefix_padding_s=self._PREFIX_S, silence_s=self._SILENCE_S),
            frame_s=self._FRAME / _RATE_HZ,
        )
        expected = np.zeros(len(samples), bool)
        for stretch in [*spans.detect(probabilities), *spans.finish()]:
            expected[stretch.begin * self._FRAME : stretch.end * self._FRAME] = True
        # The samples that fill no frame follow the last one.
        expected[len(probabilities) * self._FRAME :] = (
            bool(probabilities) and expected[len(probabilities) * self._FRAME - 1]
        )
        assert np.array_equal(covered, expected)

    def test_begins_and_ends_with_some_of_the_pause(self) -> None:
        (window,) = self._cut(_noise(3000), [0.0] * 20 + [1.0] * 10 + [0.0] * 30, longest=2000)

        assert _spans([window]) == [(800, 800, 1700)]

    def test_that_is_parted_by_a_long_pause_is_in_windows_of_its_own(self) -> None:
        windows = self._cut(_noise(3000), [0.0] * 10 + [1.0] * 10 + [0.0] * 30 + [1.0] * 10, longest=2000)

        assert _spans(windows) == [(300, 300, 1200), (2300, 2300, 3000)]

    def test_that_is_long_is_cut_as_ever(self) -> None:
        windows = self._cut(_noise(3000), [0.0] * 20 + [1.0] * 40)

        assert _spans(windows) == _spans(
            [
                AudioWindow(
                    window.samples, *(s + 0.8 for s in (window.start_s, window.seam_s, window.next_s, window.end_s))
                )
                for window in _cut(_noise(3000)[800:], _cutter())
            ]
        )

    def test_at_the_end_has_the_samples_that_fill_no_frame(self) -> None:
        (window,) = self._cut(_noise(1030), [1.0] * 20, longest=2000)

        assert _end(window) == 1030

    def test_before_the_end_leaves_the_rest_out(self) -> None:
        (window,) = self._cut(_noise(2030), [1.0] * 20 + [0.0] * 20, longest=2000)

        assert _end(window) == 1200

    def test_comes_as_soon_as_the_pause_behind_it_is_long_enough(self) -> None:
        gate, cutter = self._gate(), self._cutter()

        assert cutter.cut(gate.filter(_noise(1050), [1.0] * 10 + [0.0] * 11)) == []
        assert _spans(cutter.cut(gate.filter(_noise(50), [0.0]))) == [(0, 0, 700)]

    def test_of_silence_there_is_none(self) -> None:
        assert self._cut(_noise(5000), [0.0] * 100, 1000, 2000) == []
        assert self._cut(_noise(0), []) == []

    def test_keeps_no_more_of_silence_than_the_padding(self) -> None:
        gate = self._gate()
        tracemalloc.start()
        try:
            gate.filter(_noise(1_000_000), [0.0] * 20_000)
            left_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert gate.kept == round(self._PREFIX_S * _RATE_HZ)
        assert left_bytes < 1_000_000
