"""The real detector in front of the real model: noise gives no words, and no speech is lost in it."""

from collections.abc import AsyncGenerator

import numpy as np
import pytest

from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.adapters.vad.silero import SileroVad
from parakeet_service.application.transcribe_file import FileLimits, Progress, TranscribeFile
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.vad import VadParams
from tests.contracts.audio_decoder import pieces, wave_of
from tests.fakes import FakeDecoder

RATE_HZ = 16_000
LIMITS = FileLimits(longest_unchunked_s=60, longest_s=600, window_s=60, overlap_s=2, timeout_s=600, windows_ahead=2)


@pytest.fixture
async def use_case() -> AsyncGenerator[TranscribeFile]:
    model = parakeet_mlx_model(
        model_id="embedded",
        precision="bf16",
        offline=True,
        sample_rate_hz=RATE_HZ,
        batch_size=4,
        cache_limit_bytes=256 << 20,
        most_waiting=64,
        most_streams=1,
    )
    await model.start()
    yield TranscribeFile(model, WaveDecoder(SoxrResampler(), FakeDecoder()), LIMITS, SileroVad())
    await model.aclose()


def noise(seconds: float, level: float) -> Samples:
    samples: Samples = np.random.default_rng(5).normal(0, level, int(seconds * RATE_HZ)).astype(np.float32)
    return samples


async def test_noise_has_no_words(use_case: TranscribeFile) -> None:
    for level in (0.003, 0.03, 0.2):
        assert (await use_case(pieces(wave_of(noise(10, level))))).text == ""


async def test_speech_between_noise_is_read_at_its_time(use_case: TranscribeFile, speech: Samples) -> None:
    spoken = speech[: 7 * RATE_HZ]
    alone = await use_case(pieces(wave_of(spoken)))
    among = await use_case(pieces(wave_of(np.concatenate([noise(20, 0.003), spoken, noise(20, 0.003)]))))

    assert len(alone.words) > 10
    heard = {word.text for word in among.words}
    assert sum(word.text in heard for word in alone.words) >= 0.8 * len(alone.words)
    assert abs(among.words[0].start_s - 20 - alone.words[0].start_s) < 0.5
    assert 19.5 <= among.words[0].start_s <= among.words[-1].end_s <= 27.5
    assert all(segment.no_speech_probability is not None for segment in among.segments)
    assert among.segments[0].no_speech_probability is not None
    assert among.segments[0].no_speech_probability < 0.3


async def test_pauses_part_speech_as_was_asked(use_case: TranscribeFile, speech: Samples) -> None:
    spoken = speech[: 3 * RATE_HZ]  # begins with 0.3 s of silence
    recording = wave_of(np.concatenate([spoken, np.zeros(3 * RATE_HZ // 10, np.float32), spoken]))
    calm, asked = list[Progress](), list[Progress]()

    await use_case(pieces(recording), on_progress=calm.append)
    await use_case(
        pieces(recording),
        detection=VadParams(threshold=0.5, prefix_padding_s=0.3, silence_s=0.4),
        on_progress=asked.append,
    )

    assert len(calm) == 1
    assert len(asked) >= 2
    assert 3 <= asked[-2].done_s <= 4
