from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.evaluate import Reading, rate, reading, transcribed
from training.manifests import Utterance


@pytest.mark.parametrize(
    ("text", "wrong"), [("One TWO, three.", 0), ("one too three", 1), ("one two", 1), ("one one two three", 1), ("", 3)]
)
def test_counts_wrong_words(text: str, wrong: int) -> None:
    said = reading(Utterance(Path("a.wav"), 1.0, "corpus", "anna", "one two three"), text)
    assert (said.wrong, said.words) == (wrong, 3)


def test_the_interval_is_that_of_speakers() -> None:
    readings = [Reading(f"voice {number % 10}", 10 * (number % 10 == 0), 10) for number in range(200)]
    found = rate(readings)
    assert found.rate == pytest.approx(0.1)
    assert found.voices == 10
    # One speaker in ten is read all wrong: draws of ten contain none to three of such.
    assert found.low == 0
    assert found.high >= 0.2


def test_a_single_speaker_is_drawn_by_utterance() -> None:
    found = rate([Reading("anna", number % 2, 1) for number in range(100)])
    assert found.voices == 100
    assert 0.38 < found.low < 0.5 < found.high < 0.62


def test_shows_why_the_service_failed(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, np.zeros(16_000, np.float32), 16_000)
    with pytest.raises(SystemExit, match=r"no config\.json"):
        transcribed(tmp_path, [file])
