import asyncio
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.inference.checkpoint import Precision, locate
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.onnx.model import onnx_model
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.application.ports.speech_model import Decoding, SpeechModel, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError, ModelLoadError, ModelNotReadyError
from parakeet_service.domain.transcript import Token
from tests.contracts.speech_model import SpeechModelContract

from .checkpoints import RATE_HZ, clip_of


def model_of(
    cache: Path, model_id: str = "embedded", *, precision: Precision = "int8", streams: int = 4, batch: int = 4
) -> EngineModel:
    return onnx_model(
        model_id=model_id,
        precision=precision,
        offline=True,
        sample_rate_hz=RATE_HZ,
        batch_size=batch,
        most_waiting=64,
        most_streams=streams,
        cache=cache,
    )


def mlx_model() -> EngineModel:
    return parakeet_mlx_model(
        model_id="embedded",
        precision="fp32",
        offline=True,
        sample_rate_hz=RATE_HZ,
        batch_size=4,
        cache_limit_bytes=256 << 20,
        most_waiting=64,
        most_streams=4,
    )


class OnnxContract(SpeechModelContract):
    precision: Precision

    @pytest.fixture(autouse=True)
    def _world(self, speech: Samples, cache: Path) -> None:
        self._speech = speech
        self._cache = cache

    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return model_of(self._cache, precision=self.precision, streams=max_streams)

    def speech(self, sample_rate_hz: int) -> Samples:
        assert sample_rate_hz == RATE_HZ
        return self._speech[: 7 * sample_rate_hz]


class TestOnnxModelInFloat32(OnnxContract):
    precision: Precision = "fp32"


class TestOnnxModelInInt8(OnnxContract):
    precision: Precision = "int8"


def text(tokens: tuple[Token, ...]) -> str:
    return "".join(token.text for token in tokens).strip()


def plain(tokens: tuple[Token, ...]) -> list[tuple[int, float, float]]:
    return [(token.id, round(token.start_s, 6), round(token.end_s, 6)) for token in tokens]


async def streamed(model: EngineModel, samples: Samples) -> tuple[Token, ...]:
    heard: list[Token] = []
    async with model.open_stream(StreamContext(left_s=5, chunk_s=1, right_s=2)) as stream:
        for start in range(0, len(samples), 1024):
            step = await stream.decode(samples[start : start + 1024])
            heard += step.finalized if step else ()
        heard += (await stream.flush()).finalized
    return tuple(heard)


async def test_hears_token_for_token_what_the_mlx_engine_hears_in_recordings_and_live(
    cache: Path, speech: Samples
) -> None:
    ours, theirs = model_of(cache, precision="fp32"), mlx_model()
    await ours.start()
    await theirs.start()
    random = np.random.default_rng(11)
    clips = [clip_of(random, speech, shortest_s=0.5, longest_s=8) for _ in range(12)]
    together = await asyncio.gather(*(ours.transcribe(clip) for clip in clips))
    expected = [await theirs.transcribe(clip) for clip in clips]
    live, expected_live = await streamed(ours, speech), await streamed(theirs, speech)
    await ours.aclose()
    await theirs.aclose()
    assert sum(map(len, expected)) > 100
    assert [plain(tokens) for tokens in together] == [plain(tokens) for tokens in expected]
    assert len(expected_live) > 60
    assert plain(live) == plain(expected_live)


async def test_rounds_to_bf16_as_the_mlx_engine_does(cache: Path, speech: Samples) -> None:
    texts: dict[str, str] = {}
    confidences: dict[str, list[float]] = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8")
    for precision in precisions:
        model = model_of(cache, precision=precision)
        await model.start()
        described = model.describe()
        tokens = await model.transcribe(speech)
        await model.aclose()
        assert (described.engine, described.precision, described.device) == ("onnx", precision, "cpu")
        assert described.compute == ("int8" if precision == "int8" else "float32")
        texts[precision], confidences[precision] = text(tokens), [token.confidence for token in tokens]
    assert len(set(map(tuple, confidences.values()))) == 3
    assert texts["bf16"] == texts["fp32"]
    exact = texts["fp32"].split()
    assert len(exact) > 30
    wrong = sum(one != other for one, other in zip(texts["int8"].split(), exact, strict=True))
    assert wrong <= 0.03 * len(exact)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
async def test_audio_that_is_not_finite_fails_alone(cache: Path, speech: Samples, precision: Precision) -> None:
    model = model_of(cache, precision=precision)
    await model.start()
    broken, sound = speech[: 2 * RATE_HZ].copy(), speech[: 2 * RATE_HZ]
    broken[1000] = np.nan
    before = await model.transcribe(sound)
    first, failed, last = await asyncio.gather(
        *(model.transcribe(samples) for samples in (sound, broken, sound)), return_exceptions=True
    )
    await model.aclose()
    assert isinstance(failed, InferenceError)
    assert first == last == before


async def test_refuses_int4_by_name(cache: Path) -> None:
    model = model_of(cache, precision="int4")
    with pytest.raises(ModelLoadError, match="int4"):
        await model.start()
    await model.aclose()


async def test_tells_the_log_and_whoever_asks_that_it_builds(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    seen: set[tuple[object, object]] = set()
    with capture_logs() as logs:
        starting = asyncio.create_task(model.start())
        while not starting.done():
            await asyncio.sleep(0.001)
            try:
                model.describe()
            except ModelNotReadyError as error:
                seen.add((error.details.get("state"), error.details.get("total_bytes")))
        await starting
    await model.aclose()
    assert next(entry["event"] for entry in logs) == "building the graphs of the model"
    assert any(path.is_dir() for path in tmp_path.iterdir())
    size_bytes = locate("embedded", offline=True).weights.stat().st_size
    assert ("building", size_bytes) in seen


SEARCHES = (Decoding(beam_size=3), Decoding(phrases=("the printer Gutenberg", "men of work")), Decoding(8, ("city",)))


async def test_searches_as_the_mlx_engine_does(cache: Path, speech: Samples) -> None:
    ours, theirs = model_of(cache, precision="fp32"), mlx_model()
    await ours.start()
    await theirs.start()
    assert ours.describe().searches
    for decoding in SEARCHES:
        found = await ours.transcribe(speech[: 8 * RATE_HZ], decoding=decoding)
        assert len(found) > 20
        assert plain(found) == plain(await theirs.transcribe(speech[: 8 * RATE_HZ], decoding=decoding))
    await ours.aclose()
    await theirs.aclose()


async def test_a_live_stream_is_read_while_a_search_goes_on(cache: Path, speech: Samples) -> None:
    model = model_of(cache)
    await model.start()
    search = asyncio.create_task(model.transcribe(speech, decoding=Decoding(beam_size=16)))
    await asyncio.sleep(0)
    async with model.open_stream(StreamContext(left_s=2.0, chunk_s=1.0, right_s=0.5)) as stream:
        await stream.decode(speech[: 2 * RATE_HZ])
        assert not search.done()
    assert len(await search) > 60
    await model.aclose()
