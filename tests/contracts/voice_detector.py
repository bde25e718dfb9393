"""What every `VoiceActivityDetector` must do."""

import asyncio
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from parakeet_service.application.ports.voice_activity_detector import VoiceActivityDetector
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.errors import ModelLoadError
from parakeet_service.domain.vad import Probabilities

RATE_HZ = 16_000


async def in_steps(detector: VoiceActivityDetector, samples: Samples, step: int) -> Probabilities:
    stream = detector.open(sample_rate_hz=RATE_HZ)
    parts = [await stream.score(samples[start : start + step]) for start in range(0, len(samples), step)]
    return np.concatenate([NO_SAMPLES, *parts])


class VoiceDetectorContract(ABC):
    """Subclass it with a `make`, and with `speech` where a loud tone is not speech enough."""

    unknown_rate_hz = 11_025
    """A rate that it does not take."""

    @abstractmethod
    def make(self) -> VoiceActivityDetector: ...

    def speech(self) -> Samples:
        """At least two seconds at 16 kHz of which most are speech."""
        tone: Samples = (0.5 * np.sin(np.arange(2 * RATE_HZ) * 0.1)).astype(np.float32)
        return tone

    async def test_gives_a_probability_for_each_frame(self) -> None:
        stream = self.make().open(sample_rate_hz=RATE_HZ)
        given = await stream.score(self.speech())
        assert given.dtype == np.float32
        assert given.shape == (len(self.speech()) // stream.frame,)
        assert given.min() >= 0
        assert given.max() <= 1

    def test_a_frame_is_short_enough_to_tell_pauses(self) -> None:
        assert 0.005 <= self.make().open(sample_rate_hz=RATE_HZ).frame / RATE_HZ <= 0.1

    async def test_hears_speech(self) -> None:
        given = await in_steps(self.make(), self.speech(), RATE_HZ)
        assert np.median(given) > 0.9

    async def test_hears_none_in_silence(self) -> None:
        assert (await in_steps(self.make(), np.zeros(5 * RATE_HZ, np.float32), RATE_HZ)).max() < 0.1

    async def test_hears_that_speech_has_ended(self) -> None:
        spoken = self.speech()
        given = await in_steps(self.make(), np.concatenate([spoken, np.zeros(RATE_HZ, np.float32)]), RATE_HZ)
        assert given[-3:].max() < 0.1

    @pytest.mark.parametrize("step", [1, 7, 500, 512, 513, 16_000, 10**6])
    async def test_pieces_of_any_size_give_the_same(self, step: int) -> None:
        samples = self.speech()[:20_000]
        given = await in_steps(self.make(), samples, step)
        assert np.allclose(given, await in_steps(self.make(), samples, len(samples)), atol=1e-5)

    @pytest.mark.parametrize("steps", [[16_000], [500, 16_000], [16_000, 700, 8_000, 8_000, 1], [7]])
    async def test_calls_that_overlap_give_the_same(self, steps: list[int]) -> None:
        samples = self.speech()[: 2 * RATE_HZ]
        stream, pieces = self.make().open(sample_rate_hz=RATE_HZ), list[Samples]()
        while (at := sum(map(len, pieces))) < len(samples):
            pieces.append(samples[at : at + steps[len(pieces) % len(steps)]])
        given = await asyncio.gather(*map(stream.score, pieces))
        assert np.allclose(np.concatenate(given), await in_steps(self.make(), samples, len(samples)), atol=1e-5)

    async def test_gives_nothing_before_a_frame_is_complete(self) -> None:
        stream = self.make().open(sample_rate_hz=RATE_HZ)
        assert (await stream.score(NO_SAMPLES)).shape == (0,)
        assert (await stream.score(self.speech()[: stream.frame - 1])).shape == (0,)
        assert (await stream.score(self.speech()[:1])).shape == (1,)

    async def test_leaves_the_samples_as_they_are(self) -> None:
        samples = self.speech()
        samples.flags.writeable = False
        await in_steps(self.make(), samples, 700)

    async def test_does_not_hold_on_to_the_samples(self) -> None:
        detector, samples = self.make(), self.speech()
        expected = await in_steps(detector, samples, 700)
        stream, block, given = detector.open(sample_rate_hz=RATE_HZ), np.zeros(700, np.float32), [NO_SAMPLES]
        for start in range(0, len(samples), 700):
            piece = samples[start : start + 700]
            # The caller may use its buffer again.
            block[: len(piece)] = piece
            given.append(await stream.score(block[: len(piece)]))
        assert np.allclose(np.concatenate(given), expected, atol=1e-5)

    async def test_streams_do_not_share_state(self) -> None:
        detector, samples = self.make(), self.speech()
        alone = await in_steps(detector, samples, 1000)
        first, second = (detector.open(sample_rate_hz=RATE_HZ) for _ in range(2))
        together = [NO_SAMPLES]
        for start in range(0, len(samples), 1000):
            await first.score(-samples[::-1][start : start + 1000])
            together.append(await second.score(samples[start : start + 1000]))
        assert np.array_equal(np.concatenate(together), alone)

    def test_streams_may_run_in_other_event_loops(self) -> None:
        detector, samples = self.make(), self.speech()
        expected = asyncio.run(in_steps(detector, samples, 1000))
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(asyncio.run, in_steps(detector, samples, 1000)) for _ in range(8)]
        for one in running:
            assert np.array_equal(one.result(), expected)

    async def test_hears_many_side_by_side_as_it_does_alone(self) -> None:
        detector, samples = self.make(), self.speech()

        steps = [700, 1000, 1600, 16_000] * 5
        together = await asyncio.gather(*(in_steps(detector, samples, step) for step in steps))
        for step, given in zip(steps, together, strict=True):
            assert np.allclose(given, await in_steps(detector, samples, step), atol=1e-5)

    def test_refuses_a_rate_that_it_does_not_take(self) -> None:
        with pytest.raises(ModelLoadError):
            self.make().open(sample_rate_hz=self.unknown_rate_hz)
