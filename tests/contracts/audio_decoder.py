"""What every `AudioDecoder` must do, shown on 16-bit WAVE, which all of them read."""

import asyncio
import wave
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray

from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.errors import EmptyAudioError, UndecodableAudioError


def sweep(*, rate_hz: int = 16000, duration_s: float = 1.0) -> Samples:
    """A voice-like signal: a tone that rises from 150 to 1500 Hz and swells three times a second."""
    t = np.arange(int(rate_hz * duration_s)) / rate_hz
    phase = 2 * np.pi * (150 * t + 675 * t**2 / duration_s)
    return (0.4 * np.sin(phase) * (0.6 + 0.4 * np.sin(6 * np.pi * t))).astype(np.float32)


def wave_of(samples: NDArray[np.floating], *, rate_hz: int = 16000) -> bytes:
    """The samples, shape ``(n,)`` or ``(n, channels)``, as a 16-bit WAVE file."""
    frames, file = samples if samples.ndim == 2 else samples[:, np.newaxis], BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(frames.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes((frames * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


async def pieces(data: bytes, size: int = 1 << 16) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def decode(
    decoder: AudioDecoder, source: bytes | AsyncIterable[bytes], *, sample_rate_hz: int = 16000
) -> Samples:
    source = pieces(source) if isinstance(source, bytes) else source
    blocks = [NO_SAMPLES]
    async with decoder.open(source, sample_rate_hz=sample_rate_hz) as decoded:
        async for block in decoded.blocks:
            assert block.dtype == np.float32
            assert block.ndim == 1
            assert block.size
            blocks.append(block)
    return np.concatenate(blocks)


class ConnectionLostError(Exception):
    """What a source may raise; no decoder knows it."""


_VOICES = np.stack([sweep(), sweep()[::-1] / 2, np.zeros_like(sweep())], axis=1)


class AudioDecoderContract(ABC):
    reads_as_it_goes = True
    """Whether samples come, and reading waits for the consumer, before the source has ended."""
    turn_s = 0.0
    """How long to wait for another process to do something."""

    @abstractmethod
    def make(self) -> AudioDecoder: ...

    async def test_gives_the_samples_of_a_recording(self) -> None:
        given = await decode(self.make(), wave_of(sweep()))
        assert given.shape == (16000,)
        assert np.abs(given - sweep()).max() < 1e-3

    @pytest.mark.parametrize("size", [1, 3, 1000])
    async def test_pieces_of_any_size_give_the_same(self, size: int) -> None:
        data = wave_of(sweep(duration_s=0.1))
        assert np.array_equal(await decode(self.make(), pieces(data, size)), await decode(self.make(), data))

    async def test_an_empty_piece_is_not_the_end(self) -> None:
        async def with_gaps() -> AsyncGenerator[bytes]:
            async for piece in pieces(wave_of(sweep()), 4000):
                yield b""
                yield piece

        assert len(await decode(self.make(), with_gaps())) == 16000

    async def test_channels_are_averaged(self) -> None:
        stereo = np.stack([sweep(), np.zeros(16000, np.float32)], axis=1)
        assert np.abs(await decode(self.make(), wave_of(stereo)) - sweep() / 2).max() < 1e-3

    async def test_two_equal_channels_are_no_louder_than_one(self) -> None:
        given = await decode(self.make(), wave_of(np.stack([sweep(), sweep()], axis=1)))
        assert np.abs(given - sweep()).max() < 1e-3

    async def test_gives_the_rate_that_was_asked_for(self) -> None:
        given = await decode(self.make(), wave_of(sweep(rate_hz=48000), rate_hz=48000), sample_rate_hz=16000)
        assert abs(len(given) - 16000) <= 2
        assert np.corrcoef(given[:15990], sweep()[:15990])[0, 1] > 0.999

    async def test_no_bytes_are_empty_audio(self) -> None:
        with pytest.raises(EmptyAudioError):
            await decode(self.make(), b"")

    async def test_no_samples_are_empty_audio(self) -> None:
        with pytest.raises(EmptyAudioError):
            await decode(self.make(), wave_of(NO_SAMPLES))

    @pytest.mark.parametrize("data", [b"\0", b"no audio at all", bytes(range(256)) * 40, b"\0" * 5000])
    async def test_refuses_what_is_no_audio(self, data: bytes) -> None:
        with pytest.raises(UndecodableAudioError):
            await decode(self.make(), data)

    async def test_what_the_source_raises_passes_through(self) -> None:
        async def breaking() -> AsyncGenerator[bytes]:
            yield wave_of(sweep())[:9000]
            raise ConnectionLostError

        with pytest.raises(ConnectionLostError):
            await decode(self.make(), breaking())

    async def test_what_the_consumer_raises_passes_through(self) -> None:
        async def fail_at_the_first_block() -> None:
            async with self.make().open(pieces(wave_of(sweep())), sample_rate_hz=16000) as decoded:
                async for _ in decoded.blocks:
                    raise ConnectionLostError

        with pytest.raises(ConnectionLostError):
            await fail_at_the_first_block()

    async def test_may_be_left_before_the_first_block(self) -> None:
        async with aclosing(pieces(wave_of(sweep()))) as source, self.make().open(source, sample_rate_hz=16000):
            pass

    async def test_a_slow_consumer_slows_the_source(self) -> None:
        if not self.reads_as_it_goes:
            pytest.skip("reads everything first")
        taken_bytes = 0

        async def endless() -> AsyncGenerator[bytes]:
            nonlocal taken_bytes
            # The longest length that a header can state.
            yield wave_of(NO_SAMPLES)[:40] + b"\xfe\xff\xff\xff"
            while True:
                taken_bytes += 1 << 16
                yield bytes(1 << 16)

        async with aclosing(endless()) as source, self.make().open(source, sample_rate_hz=16000) as decoded:
            await anext(decoded.blocks)
            for _ in range(50):
                await asyncio.sleep(self.turn_s)
            assert taken_bytes < 4 << 20

    async def test_many_at_once_do_not_mix(self) -> None:
        decoder = self.make()
        signals = [sweep(duration_s=0.5) * (i / 10) for i in range(1, 10)]
        given = await asyncio.gather(*(decode(decoder, wave_of(signal)) for signal in signals))
        for signal, samples in zip(signals, given, strict=True):
            assert np.abs(samples - signal).max() < 1e-3

    async def test_keeps_channels_apart(self) -> None:
        async with self.make().open(pieces(wave_of(_VOICES)), sample_rate_hz=16000, separate=True) as decoded:
            blocks = [block async for block in decoded.blocks]

        together = np.concatenate(blocks)
        assert together.dtype == np.float32
        assert together.shape == _VOICES.shape
        assert np.allclose(together, _VOICES, atol=1e-3)
