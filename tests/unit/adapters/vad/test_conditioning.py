import numpy as np
import pytest

from parakeet_service.adapters.vad.conditioning import ClearedRun, Conditioner, Windows

WINDOW = 576
FRAME_S = 0.032
T = np.arange(WINDOW) / 16_000


def voice(level_db: float, frames: int = 20) -> Windows:
    """Windows of noise, whose mean power is `level_db` of full scale."""
    return np.random.default_rng(0).normal(0, 10 ** (level_db / 20), (frames, WINDOW)).astype(np.float32)


def cleared(windows: Windows, step: int = 1000) -> list[ClearedRun]:
    conditioner = Conditioner(frame_s=FRAME_S)
    return [run for at in range(0, len(windows), step) for run in conditioner.clear(windows[at : at + step])]


def level_db(windows: Windows) -> float:
    return float(10 * np.log10(np.square(windows.astype(np.float64)).mean()))


@pytest.mark.parametrize("level", [0, -20, -50, -58])
def test_what_is_loud_enough_is_left_alone(level: float) -> None:
    assert cleared(voice(level)) == []


@pytest.mark.parametrize("level", [-65, -80, -98])
def test_what_is_soft_is_made_louder(level: float) -> None:
    (run,) = cleared(voice(level))
    assert run.needed.all()
    assert level_db(run.windows) == pytest.approx(-40, abs=2)


def test_no_sound_is_not_scored_again() -> None:
    assert cleared(np.zeros((20, WINDOW), np.float32)) == []
    assert cleared(np.full((20, WINDOW), 0.1, np.float32)) == []


@pytest.mark.parametrize("hz", [0, 5, 20, 50, 60])
def test_what_drowns_speech_is_taken_off(hz: float) -> None:
    soft = voice(-45)
    hum = np.float32(0.1) * np.cos(2 * np.pi * hz * T)
    (run,) = cleared((soft + hum).astype(np.float32))
    assert run.needed.all()
    assert level_db(run.windows) == pytest.approx(level_db(soft), abs=10)


@pytest.mark.parametrize("hz", [85, 120, 300, 3000])
def test_a_voice_is_not_taken_off(hz: float) -> None:
    tone = np.float32(0.1) * np.cos(2 * np.pi * hz * T + 1)
    assert cleared((voice(-45) + tone).astype(np.float32)) == []


def test_a_pause_after_loud_speech_is_left_alone_and_a_long_one_is_not() -> None:
    windows = np.concatenate([voice(-20, 5), voice(-70, 120)])
    (run,) = cleared(windows)
    assert 5 + 1.5 / FRAME_S < run.begin < 5 + 2.5 / FRAME_S


def test_loud_frames_after_soft_ones_belong_to_the_run_and_keep_their_scores() -> None:
    (run,) = cleared(np.concatenate([voice(-70, 10), voice(-20, 60)]))
    assert run.needed.tolist()[:10] == [True] * 10
    assert not run.needed[10:].any()
    assert len(run.windows) == pytest.approx(10 + 1 / FRAME_S, abs=2)


@pytest.mark.parametrize("step", [1, 7, 64])
def test_pieces_of_any_size_give_the_same(step: int) -> None:
    windows = np.concatenate([voice(-20, 5), voice(-70, 100), voice(-30, 50), voice(-66, 90)])
    whole, parts = cleared(windows), cleared(windows, step)
    assert [run.continues for run in whole] == [False] * len(whole)
    assert sum(not run.continues for run in parts) == len(whole)
    assert np.allclose(
        np.concatenate([run.windows for run in whole]), np.concatenate([run.windows for run in parts]), atol=1e-5
    )
    assert np.array_equal(np.concatenate([run.needed for run in whole]), np.concatenate([run.needed for run in parts]))
