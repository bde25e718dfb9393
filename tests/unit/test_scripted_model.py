import numpy as np
import pytest
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import SpeechModel, StreamContext
from parakeet_service.domain.audio import Samples
from tests.contracts.speech_model import SpeechModelContract
from tests.scripted_model import ScriptedModel


class TestScriptedModel(SpeechModelContract):
    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return ScriptedModel(max_streams=max_streams)


def noise(seconds: float) -> Samples:
    return np.full(round(seconds * 16000), 0.1, np.float32)


async def started(script: str) -> ScriptedModel:
    model = ScriptedModel(script=script, words_per_s=2)
    await model.start()
    return model


async def test_says_a_word_for_each_slot_that_is_spoken_and_begins_again() -> None:
    model = await started("one two three")
    tokens = await model.transcribe(noise(2.0))
    assert [(token.text, token.start_s, token.end_s) for token in tokens] == [
        (" one", 0.0, 0.375),
        (" two", 0.5, 0.875),
        (" three", 1.0, 1.375),
        (" one", 1.5, 1.875),
    ]


async def test_says_nothing_for_a_silent_slot_and_keeps_its_place_in_the_script() -> None:
    model = await started("one two three")
    tokens = await model.transcribe(np.concatenate([noise(0.5), np.zeros(8000, np.float32), noise(0.5)]))
    assert [token.text for token in tokens] == [" one", " three"]


async def test_a_word_is_said_once_its_spoken_part_is_there() -> None:
    model = await started("one")
    assert await model.transcribe(noise(0.374)) == ()
    assert len(await model.transcribe(noise(0.375))) == 1


@pytest.mark.parametrize("piece", [1600, 7777, 32000])
async def test_a_stream_says_what_a_window_says_however_it_is_split(piece: int) -> None:
    model = await started("one two three")
    samples = noise(2.0)
    async with model.open_stream(StreamContext(left_s=1, chunk_s=0.5, right_s=0.5)) as stream:
        steps = [await stream.decode(samples[at : at + piece]) for at in range(0, len(samples), piece)]
        steps.append(await stream.flush())
    tokens = tuple(token for step in steps if step is not None for token in step.finalized)
    assert tokens == await model.transcribe(samples)


async def test_counts_its_open_streams() -> None:
    model = await started("one")
    async with model.open_stream(StreamContext(1, 1, 1)):
        assert model.open_streams == 1
    assert model.open_streams == 0


async def test_warns_that_it_does_not_listen() -> None:
    with capture_logs() as lines:
        await started("one")
    assert [line["log_level"] for line in lines] == ["warning"]
    assert "does not listen" in lines[0]["event"]
