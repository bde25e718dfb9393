import asyncio
import json
import shutil
from pathlib import Path
from typing import cast

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]
from parakeet_mlx.utils import from_config
from structlog.testing import capture_logs

from parakeet_service.adapters.inference.checkpoint import Precision, locate
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.application.ports.speech_model import Decoding, SpeechModel, StreamContext
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError, InvalidRequestError, ModelLoadError, OverloadedError
from parakeet_service.domain.transcript import Token
from tests.contracts.speech_model import SpeechModelContract

EMBEDDED = locate("embedded", offline=True)


def model_of(
    model_id: str = "embedded",
    *,
    precision: Precision = "bf16",
    sample_rate_hz: int = 16000,
    streams: int = 4,
    waiting: int = 64,
    batch: int = 4,
) -> EngineModel:
    return parakeet_mlx_model(
        model_id=model_id,
        precision=precision,
        offline=True,
        sample_rate_hz=sample_rate_hz,
        batch_size=batch,
        cache_limit_bytes=256 << 20,
        most_waiting=waiting,
        most_streams=streams,
    )


class TestParakeetMlxModel(SpeechModelContract):
    @pytest.fixture(autouse=True)
    def _recording(self, speech: Samples) -> None:
        self._speech = speech

    def make(self, *, max_streams: int = 4) -> SpeechModel:
        return model_of(streams=max_streams)

    def speech(self, sample_rate_hz: int) -> Samples:
        assert sample_rate_hz == 16000
        return self._speech[: 7 * sample_rate_hz]


def copy_of_embedded(directory: Path, **changes: object) -> Path:
    """A checkpoint directory like the embedded one, but for the `changes` to its configuration."""
    (directory / "config.json").write_text(json.dumps({**EMBEDDED.config, **changes}), encoding="utf-8")
    shutil.copyfile(EMBEDDED.weights, directory / "model.safetensors")
    return directory


def ctc_checkpoint(directory: Path) -> Path:
    """A small CTC model with random weights."""
    vocabulary = EMBEDDED.config["joint"]["vocabulary"]
    config = {
        **EMBEDDED.config,
        "target": "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE",
        "encoder": {**EMBEDDED.config["encoder"], "n_layers": 1},
        "decoder": {"feat_in": 256, "num_classes": len(vocabulary), "vocabulary": vocabulary},
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = cast("list[tuple[str, mx.array]]", tree_flatten(from_config(config).parameters()))
    mx.save_safetensors(  # pyright: ignore[reportUnknownMemberType] - its stub has no types
        str(directory / "model.safetensors"), dict(weights)
    )
    return directory


def text(tokens: tuple[Token, ...]) -> str:
    return "".join(token.text for token in tokens).strip()


async def test_says_what_it_is_and_what_it_is_not() -> None:
    with capture_logs() as logs:
        model = model_of()
        await model.start()
        described = model.describe()
        await model.aclose()
    assert described.id == "embedded"
    assert described.architecture == "tdt"
    assert described.precision == "bf16"
    assert described.languages == ("en",)
    assert "small" in str(described.note)
    assert any(entry["log_level"] == "warning" and entry["event"] == "model_note" for entry in logs)


async def test_reads_a_directory_as_it_reads_the_embedded_model(tmp_path: Path, speech: Samples) -> None:
    texts: list[str] = []
    for model_id in ("embedded", str(copy_of_embedded(tmp_path))):
        model = model_of(model_id, precision="fp32")
        await model.start()
        texts.append(text(await model.transcribe(speech)))
        await model.aclose()
    assert texts[0] == texts[1]
    assert len(texts[0].split()) > 30


async def test_precision_is_applied(speech: Samples) -> None:
    confidences: dict[Precision, list[float]] = {}
    texts: dict[Precision, str] = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")
    for precision in precisions:
        model = model_of(precision=precision)
        await model.start()
        assert model.describe().precision == precision
        tokens = await model.transcribe(speech)
        confidences[precision] = [token.confidence for token in tokens]
        texts[precision] = text(tokens)
        await model.aclose()
    assert len(set(map(tuple, confidences.values()))) == len(precisions)
    # Four bits may cost words; a layer that was rounded wrongly would cost all of them.
    exact = texts["fp32"].split()
    assert texts["bf16"] == texts["int8"] == texts["fp32"]
    assert len(set(texts["int4"].split()) & set(exact)) > 0.7 * len(set(exact))


async def test_refuses_another_sample_rate_than_the_models() -> None:
    model = model_of(sample_rate_hz=8000)
    with pytest.raises(ModelLoadError, match=r"expects 16000 Hz, not 8000 Hz"):
        await model.start()
    with pytest.raises(ModelLoadError):
        model.describe()
    await model.aclose()


async def test_audio_that_is_not_finite_fails_alone(speech: Samples) -> None:
    model = model_of()
    await model.start()
    broken = speech.copy()
    broken[1000] = np.nan
    before = await model.transcribe(speech)
    with capture_logs() as logs, pytest.raises(InferenceError):
        await model.transcribe(broken)
    assert any(entry["event"] == "inference_failed" and "exc_info" in entry for entry in logs)
    assert await model.transcribe(speech) == before
    await model.aclose()


async def test_turns_windows_away_when_its_queue_is_full(speech: Samples) -> None:
    model = model_of(waiting=2)
    await model.start()
    results = await asyncio.gather(*(model.transcribe(speech) for _ in range(10)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, OverloadedError)]
    read = [result for result in results if isinstance(result, tuple)]
    assert len(refused) + len(read) == 10
    assert len(refused) >= 7
    assert len(set(map(text, read))) == 1
    await model.aclose()


async def test_reads_the_same_whatever_it_read_before(speech: Samples) -> None:
    """Features that look past the audio's end, into what lies behind it in memory, change from call to call."""
    model = model_of(precision="fp32")
    await model.start()
    random = np.random.default_rng(3)
    windows = [speech[start : start + 16000 + 37 * start % 6000] for start in range(0, len(speech) - 24000, 24000)]
    first = [await model.transcribe(window) for window in windows]
    assert sum(map(len, first)) > 20
    for _ in range(300):
        index = int(random.integers(len(windows)))
        assert await model.transcribe(windows[index]) == first[index]
    await model.aclose()


@pytest.mark.parametrize("seconds", [4, 9])
async def test_a_stream_ends_with_the_offline_text(speech: Samples, seconds: int) -> None:
    model = model_of()
    await model.start()
    samples = speech[: seconds * 16000]
    heard: list[Token] = []
    async with model.open_stream(StreamContext(left_s=6, chunk_s=1, right_s=6)) as stream:
        for start in range(0, len(samples), 1024):
            step = await stream.decode(samples[start : start + 1024])
            heard += step.finalized if step else ()
        heard += (await stream.flush()).finalized
    assert text(tuple(heard)) == text(await model.transcribe(samples))
    await model.aclose()


async def test_an_open_stream_changes_nothing_for_other_requests(speech: Samples) -> None:
    model = model_of(precision="fp32")
    await model.start()
    before = await model.transcribe(speech)
    async with model.open_stream(StreamContext(left_s=2, chunk_s=1, right_s=1)) as stream:
        await stream.decode(speech[:48000])
        assert await model.transcribe(speech) == before
    assert await model.transcribe(speech) == before
    await model.aclose()


SPOKEN = ("century", "books", "printed", "city", "street", "Morning", "opinion", "Committee", "completed")
NOT_SPOKEN = tuple(
    "Parker,Winchester,Oscar,Massachusetts,Alabama,Frederick,Kensington,Thompson,Marlborough,Constantine,Alexander,"
    "Philadelphia,Montgomery,Wellington,Cambridge,Harrison,Elizabeth,Margaret,Theodore,Lawrence,Somerset,Sheffield,"
    "Leicester,Norwich,Jefferson,Lincoln,Cleveland,Nebraska,Dakota,Colorado,Minneapolis,Kubernetes,PostgreSQL,Redis,"
    "Terraform,Gutenberg,Cupertino,Shenzhen,Mumbai,Nairobi,Reykjavik,Helsinki,Copenhagen,Dvorak,Tchaikovsky,"
    "Rachmaninoff,Schubert,Mendelssohn,Printemps,Cityscape".split(",")
)


async def test_hears_phrases_that_are_said_and_none_that_are_not(speech: Samples) -> None:
    model = model_of()
    await model.start()
    assert model.describe().searches
    assert len(NOT_SPOKEN) == 50

    async def words(samples: Samples, *phrases: str) -> list[str]:
        heard = text(await model.transcribe(samples, decoding=Decoding(phrases=phrases))).lower()
        return heard.replace(",", "").replace(".", "").split()

    found = {"greedy": 0, "favoured": 0, "among others": 0}
    for seed in range(3):
        noisy = speech + np.random.default_rng(seed).normal(0, 0.07, len(speech)).astype(np.float32)
        heard = {
            "greedy": await words(noisy),
            "favoured": await words(noisy, *SPOKEN),
            "among others": await words(noisy, *SPOKEN, *NOT_SPOKEN),
        }
        for how, said in heard.items():
            found[how] += sum(word.lower() in said for word in SPOKEN)
        assert not {word.lower() for word in NOT_SPOKEN} & set(heard["among others"])
    plain, distracted = await words(speech), await words(speech, *NOT_SPOKEN)
    await model.aclose()
    # Eleven of 27 words are lost in the noise.
    assert found["favoured"] >= found["greedy"] + 4
    assert found["among others"] >= found["greedy"] + 4
    assert plain == distracted


async def test_hears_phrases_live_that_are_said_and_none_that_are_not(speech: Samples) -> None:
    model = model_of()
    await model.start()

    async def words(samples: Samples, *phrases: str) -> list[str]:
        heard: list[Token] = []
        context, decoding = StreamContext(left_s=5, chunk_s=1, right_s=2), Decoding(phrases=phrases)
        async with model.open_stream(context, decoding=decoding) as stream:
            for at in range(0, len(samples), 8000):
                step = await stream.decode(samples[at : at + 8000])
                heard += step.finalized if step else ()
            heard += (await stream.flush()).finalized
        return text(tuple(heard)).lower().replace(",", "").replace(".", "").split()

    found = {"greedy": 0, "among others": 0}
    for seed in range(2):
        noisy = speech + np.random.default_rng(seed).normal(0, 0.07, len(speech)).astype(np.float32)
        heard = {"greedy": await words(noisy), "among others": await words(noisy, *SPOKEN, *NOT_SPOKEN)}
        for how, said in heard.items():
            found[how] += sum(word.lower() in said for word in SPOKEN)
        assert not {word.lower() for word in NOT_SPOKEN} & set(heard["among others"])
    plain, distracted = await words(speech), await words(speech, *NOT_SPOKEN)
    await model.aclose()
    assert found["among others"] >= found["greedy"] + 2
    assert plain == distracted


async def test_a_live_stream_is_read_while_a_search_goes_on(speech: Samples) -> None:
    model = model_of()
    await model.start()
    search = asyncio.create_task(model.transcribe(speech, decoding=Decoding(beam_size=16)))
    await asyncio.sleep(0.1)
    async with model.open_stream(StreamContext(left_s=2.0, chunk_s=1.0, right_s=0.5)) as stream:
        await stream.decode(speech[: 2 * 16000])
        assert not search.done()
    assert len(await search) > 60
    await model.aclose()


async def test_a_model_of_another_kind_refuses_to_search(tmp_path: Path, speech: Samples) -> None:
    model = model_of(str(ctc_checkpoint(tmp_path)))
    await model.start()
    assert not model.describe().searches
    with pytest.raises(InvalidRequestError):
        await model.transcribe(speech, decoding=Decoding(beam_size=2))
    await model.transcribe(speech[:16000])
    await model.aclose()
