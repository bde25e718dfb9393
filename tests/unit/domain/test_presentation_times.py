from collections.abc import Iterable

import pytest

from parakeet_service.domain.presentation_times import PresentationTimes

RATE_HZ = 1000


def silences(pieces: Iterable[tuple[int, int]]) -> list[int]:
    times = PresentationTimes(sample_rate_hz=RATE_HZ)
    return [times.silence_before(at=at, length=length) for at, length in pieces]


def test_pieces_that_follow_each_other_need_none() -> None:
    assert silences([(0, 20), (20, 20), (40, 1000), (1040, 20)]) == [0, 0, 0, 0]


@pytest.mark.parametrize("late", [1, 60, 4900, 3_600_000])
def test_a_recording_that_begins_late_begins_with_silence(late: int) -> None:
    assert silences([(late, 20), (late + 20, 20)]) == [late, 0]


@pytest.mark.parametrize("hole", [101, 8000, 3_600_000])
def test_a_hole_is_filled(hole: int) -> None:
    assert silences([(0, 500), (500 + hole, 20), (520 + hole, 20)]) == [0, hole, 0]


@pytest.mark.parametrize("jitter", [-100, -1, 1, 100])
def test_jitter_is_no_hole(jitter: int) -> None:
    assert silences([(0, 500), (500 + jitter, 20), (520, 20)]) == [0, 0, 0]


def test_small_holes_add_up() -> None:
    # One piece in six is lost.
    at = [at for at in range(0, 2400, 24) if at % 144]
    total = sum(silences((one, 24) for one in at)) + 24 * len(at)
    assert total == pytest.approx(2400, abs=100)


def test_what_runs_backwards_follows_what_came_before() -> None:
    assert silences([(0, 5000), (0, 20), (20, 980), (1000 + 300, 20)]) == [0, 0, 0, 300]


def test_a_clock_that_was_set_far_ahead_leaves_no_hole() -> None:
    assert silences([(0, 500), (10**8, 20), (10**8 + 20, 20), (10**8 + 240, 20)]) == [0, 0, 0, 200]
