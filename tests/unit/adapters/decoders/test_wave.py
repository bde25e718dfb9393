import asyncio
import struct
import wave
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.application.ports.audio_decoder import DecodedAudio
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import EmptyAudioError, InvalidRequestError, UndecodableAudioError
from parakeet_service.domain.recording_warnings import DamagedAudio, RecordingWarning, UnderstatedLength
from tests.contracts.audio_decoder import AudioDecoderContract, decode, pieces, sweep, wave_of

SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")


class FakeDecoder:
    """Reads 16-bit WAVE with the standard library, all at the end; remembers what it was given."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.tracks: list[int | None] = []
        self.warnings: list[RecordingWarning] = []

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        self.tracks.append(track)
        yield DecodedAudio(self._decode(source, sample_rate_hz, separate=separate), self.warnings)

    async def _decode(
        self, source: AsyncIterable[bytes], sample_rate_hz: int, *, separate: bool
    ) -> AsyncIterator[Samples]:
        data = b"".join([piece async for piece in source])
        self.received.append(data)
        if not data:
            raise EmptyAudioError("The recording is empty.")
        try:
            with wave.open(BytesIO(data)) as reader:
                frames = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, reader.getnchannels())
                rate_hz = reader.getframerate()
        except (wave.Error, EOFError) as error:
            raise UndecodableAudioError("The recording is no WAVE.") from error
        if not len(frames):
            raise EmptyAudioError("The recording holds no samples.")
        given = frames if separate else frames.mean(axis=1, keepdims=True, dtype=np.float32)
        channels = [
            SoxrResampler().open(from_hz=rate_hz, to_hz=sample_rate_hz).resample(channel, last=True)
            for channel in np.ascontiguousarray(given.T.astype(np.float32) / np.float32(32768))
        ]
        yield np.stack(channels, axis=1) if separate else channels[0]


class RefusingDecoder(FakeDecoder):
    async def _decode(
        self,
        source: AsyncIterable[bytes],
        sample_rate_hz: int,  # noqa: ARG002
        *,
        separate: bool,  # noqa: ARG002
    ) -> AsyncIterator[Samples]:
        async for piece in source:
            self.received.append(piece)
        raise UndecodableAudioError("No.")
        yield


class TestFakeDecoder(AudioDecoderContract):
    reads_as_it_goes = False

    def make(self) -> FakeDecoder:
        return FakeDecoder()


class TestWaveDecoder(AudioDecoderContract):
    def make(self) -> WaveDecoder:
        return WaveDecoder(SoxrResampler(), FakeDecoder())


def chunk(name: bytes, body: bytes, *, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def fmt(tag: int, bits: int, *, channels: int = 1, rate_hz: int = 16000, extensible: bool = False) -> bytes:
    frame_bytes = channels * bits // 8
    head = struct.pack("<HIIHH", channels, rate_hz, rate_hz * frame_bytes & 0xFFFFFFFF, frame_bytes & 0xFFFF, bits)
    if extensible:
        return chunk(b"fmt ", b"\xfe\xff" + head + struct.pack("<HHIH", 22, bits, 0, tag) + SUBFORMAT_TAIL)
    return chunk(b"fmt ", struct.pack("<H", tag) + head)


def riff(*chunks: bytes) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks))


def encoded(samples: NDArray[np.floating], tag: int, bits: int) -> bytes:
    match tag, bits:
        case 1, 8:
            return (np.round(samples * 127) + 128).astype(np.uint8).tobytes()
        case 1, 24:
            wide = np.round(samples * 8388607).astype("<i4")
            return wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        case 1, _:
            scaled: NDArray[np.float64] = samples.astype(np.float64) * float((1 << (bits - 1)) - 1)
            return scaled.round().astype(f"<i{bits // 8}").tobytes()
        case _:
            return samples.astype(f"<f{bits // 8}").tobytes()


FORMATS = [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)]


async def read_wave(data: bytes, *, size: int = 1 << 16) -> Samples:
    """Decode with a fallback that must not be needed."""
    fallback = FakeDecoder()
    samples = await decode(WaveDecoder(SoxrResampler(), fallback), pieces(data, size))
    assert not fallback.received
    return samples


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("tag", "bits"), FORMATS)
async def test_reads_every_sample_format(tag: int, bits: int, *, extensible: bool) -> None:
    data = riff(fmt(tag, bits, extensible=extensible), chunk(b"data", encoded(sweep(), tag, bits)))
    assert np.abs(await read_wave(data, size=4001) - sweep()).max() < (0.01 if bits == 8 else 1e-4)


@pytest.mark.parametrize(("tag", "loud"), [(7, b"\x80\x00"), (6, b"\xaa\x2a")])
async def test_reads_telephone_formats(tag: int, loud: bytes) -> None:
    data = riff(fmt(tag, 8, rate_hz=16000), chunk(b"fact", bytes(4)), chunk(b"data", loud * 500))
    samples = await read_wave(data)
    assert samples[0::2] == pytest.approx(1.0, abs=0.03)
    assert samples[1::2] == pytest.approx(-1.0, abs=0.03)


@pytest.mark.parametrize("bits", [32, 64])
async def test_float_samples_that_are_no_audio_are_tamed(bits: int) -> None:
    values = np.array([0.25, np.nan, np.inf, -np.inf, 7.0, -7.0])
    samples = await read_wave(riff(fmt(3, bits), chunk(b"data", encoded(values, 3, bits))))
    assert samples.tolist() == [0.25, 0, 0, 0, 1, -1]


@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 20])
async def test_reads_to_the_end_where_the_stated_length_is_unknown_or_too_long(stated: int) -> None:
    body = encoded(sweep(), 1, 16)
    assert len(await read_wave(riff(fmt(1, 16), chunk(b"data", body, size=stated)))) == 16000


async def test_ignores_what_follows_the_samples() -> None:
    data = riff(fmt(1, 16), chunk(b"data", encoded(sweep(), 1, 16)), chunk(b"LIST", b"\x7f" * 5000))
    assert len(await read_wave(data)) == 16000


async def test_a_recording_cut_inside_a_frame_gives_its_whole_frames() -> None:
    stereo = np.repeat(sweep(), 2)
    data = riff(fmt(1, 16, channels=2), chunk(b"data", encoded(stereo, 1, 16)))
    assert len(await read_wave(data[:-3])) == 15999


async def test_averages_more_channels_than_a_step_has_bytes_for() -> None:
    frames = np.tile(np.array([[100], [-200]], "<i2"), (1, 32767))
    data = riff(fmt(1, 16, channels=32767), chunk(b"data", frames.tobytes()))
    assert await read_wave(data) == pytest.approx([100 / 32768, -200 / 32768])


@given(
    tag_bits=st.sampled_from(FORMATS),
    channels=st.integers(1, 9),
    frames=st.integers(1, 300),
    junk=st.lists(st.tuples(st.sampled_from([b"LIST", b"fact", b"junk", b"id3 "]), st.binary(max_size=99)), max_size=4),
    size=st.integers(1, 700),
)
def test_headers_and_splits_do_not_matter(
    tag_bits: tuple[int, int], channels: int, frames: int, junk: list[tuple[bytes, bytes]], size: int
) -> None:
    mono = sweep(duration_s=1)[:frames]
    body = encoded(np.repeat(mono, channels), *tag_bits)
    extra = [chunk(name, content) for name, content in junk]
    data = riff(*extra, fmt(*tag_bits, channels=channels), *extra, chunk(b"data", body))
    samples = asyncio.run(read_wave(data, size=size))
    assert samples.shape == mono.shape
    assert np.abs(samples - mono).max() < 0.01


OTHER = {
    "other magic": b"OggS" + bytes(100),
    "RF64": b"RF64" + riff(fmt(1, 16), chunk(b"data", bytes(100)))[4:],
    "AVI": b"RIFF\x64\0\0\0AVI " + bytes(100),
    "compressed": riff(fmt(0x55, 0), chunk(b"data", bytes(100))),
    "no channels": riff(fmt(1, 16, channels=0), chunk(b"data", bytes(100))),
    "12 bits": riff(fmt(1, 12), chunk(b"data", bytes(100))),
    "no rate": riff(fmt(1, 16, rate_hz=0), chunk(b"data", bytes(100))),
    "absurd rate": riff(fmt(1, 16, rate_hz=0xFFFFFFFF), chunk(b"data", bytes(100))),
    "absurd frames": riff(fmt(3, 64, channels=65535), chunk(b"data", bytes(100))),
    "samples before format": riff(chunk(b"data", bytes(100)), fmt(1, 16)),
    "no samples": riff(fmt(1, 16)),
    "short format": riff(chunk(b"fmt ", b"\1\0\1\0"), chunk(b"data", bytes(100))),
    "huge format": riff(chunk(b"fmt ", bytes(100), size=0xFFFFFFF0), bytes(5000)),
    "unknown subformat": riff(fmt(1, 16, extensible=True).replace(SUBFORMAT_TAIL, bytes(14)), chunk(b"data", bytes(9))),
    "cut header": riff(fmt(1, 16))[:30],
}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("size", [1, 1 << 16])
async def test_hands_everything_else_to_the_fallback_whole(name: str, size: int) -> None:
    fallback = RefusingDecoder()
    with pytest.raises(UndecodableAudioError):
        await decode(WaveDecoder(SoxrResampler(), fallback), pieces(OTHER[name], size))
    assert b"".join(fallback.received) == OTHER[name]


async def test_gives_what_the_fallback_decodes() -> None:
    class Reversed(FakeDecoder):
        async def _decode(
            self,
            source: AsyncIterable[bytes],
            sample_rate_hz: int,  # noqa: ARG002
            *,
            separate: bool,  # noqa: ARG002
        ) -> AsyncIterator[Samples]:
            async for piece in source:
                yield np.frombuffer(piece, "<f4")

    samples = await decode(WaveDecoder(SoxrResampler(), Reversed()), sweep().tobytes())
    assert np.array_equal(samples, sweep())


async def test_looks_no_further_than_a_header_may_reach() -> None:
    fallback = RefusingDecoder()
    data = riff(chunk(b"LIST", b"", size=0xFFFFFFF0)) + bytes(4 << 20)
    with pytest.raises(UndecodableAudioError):
        await decode(WaveDecoder(SoxrResampler(), fallback), data)
    assert len(fallback.received[0]) <= 2 << 20


@given(data=st.binary(max_size=200), at=st.integers(0, 60))
def test_no_damage_raises_anything_unexpected(data: bytes, at: int) -> None:
    good = wave_of(sweep(duration_s=0.01))
    damaged = good[:at] + data + good[at + len(data) :]
    with suppress(UndecodableAudioError, EmptyAudioError):
        asyncio.run(decode(WaveDecoder(SoxrResampler(), RefusingDecoder()), damaged))


async def test_gives_what_has_come_and_does_not_wait_for_more() -> None:
    came = asyncio.Queue[bytes]()

    async def live() -> AsyncGenerator[bytes]:
        while piece := await came.get():
            yield piece

    recording, heard = wave_of(sweep(duration_s=3)), 0
    async with WaveDecoder(SoxrResampler(), FakeDecoder()).open(live(), sample_rate_hz=16000) as decoded:
        for at in range(0, len(recording), 3201):
            came.put_nowait(recording[at : at + 3201])
            heard += len(await asyncio.wait_for(anext(decoded.blocks), 5))
            assert heard == (min(at + 3201, len(recording)) - 44) // 2


@pytest.mark.parametrize("rate_hz", [1, 100, 999])
async def test_refuses_a_sample_rate_that_is_none_of_speech(rate_hz: int) -> None:
    data = riff(fmt(1, 8, rate_hz=rate_hz), chunk(b"data", bytes(2000)))
    with pytest.raises(UndecodableAudioError, match=f" {rate_hz} Hz"):
        await decode(WaveDecoder(SoxrResampler(), NoFallback()), data)


class NoFallback:
    @asynccontextmanager
    async def open(
        self,
        source: AsyncIterable[bytes],
        *,
        sample_rate_hz: int,
        track: int | None = None,
        separate: bool = False,
    ) -> AsyncGenerator[DecodedAudio]:
        raise AssertionError((source, sample_rate_hz, track, separate))
        yield


@pytest.mark.parametrize("stated_bytes", [2, 3200, 3201])
async def test_reads_what_follows_the_stated_samples(stated_bytes: int) -> None:
    whole = wave_of(sweep())
    data = whole[:40] + struct.pack("<I", stated_bytes) + whole[44:]

    given, warnings = await with_warnings(data)

    assert np.array_equal(given, await decode(make(), whole))
    assert warnings == [UnderstatedLength(stated_bytes // 2 / 16000)]


@pytest.mark.parametrize("bits", [8, 24])
async def test_reads_what_follows_an_odd_number_of_stated_bytes(bits: int) -> None:
    width = bits // 8
    samples = bytes(range(1, 250)) * 100 * width
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        0,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        16000,
        16000 * width,
        width,
        bits,
        b"data",
        801 * width,
    )

    assert len(await decode(make(), head + samples)) == len(samples) // width


@pytest.mark.parametrize("chunk", [b"LIST", b"id3 ", b"bext", b"_PMX", b"afsp", b"iXML"])
@pytest.mark.parametrize("size", [1, 4, 30_000])
async def test_other_chunks_are_no_samples(chunk: bytes, size: int) -> None:
    data = (
        wave_of(sweep())
        + chunk
        + struct.pack("<I", size)
        + bytes(range(256)) * (size // 256)
        + bytes(size % 256 + size % 2)
    )

    given, warnings = await with_warnings(data)

    assert len(given) == 16000
    assert warnings == []


async def test_reads_a_second_file_behind_the_first() -> None:
    first, second = wave_of(sweep()), wave_of(sweep(rate_hz=48000), rate_hz=48000)

    given = await decode(make(), first + b"LIST" + struct.pack("<I", 4) + b"INFO" + second)

    assert abs(len(given) - 32000) <= 2
    assert np.array_equal(given[:16000], await decode(make(), first))


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64), (6, 8)])
@pytest.mark.parametrize("extensible", [False, True])
async def test_reads_the_other_byte_order(tag: int, bits: int, *, extensible: bool) -> None:
    width = bits // 8
    samples = np.random.default_rng(0).integers(0, 256, 3000 * width, np.uint8)
    if tag == 3:
        samples = np.linspace(-1, 1, 3000).astype(f"<f{width}").view(np.uint8)
    swapped = samples.reshape(-1, width)[:, ::-1]

    def file(order: str, data: bytes) -> bytes:
        known = struct.pack(
            f"{order}HHHHIIHH", 0, 0, 0xFFFE if extensible else tag, 1, 16000, 16000 * width, width, bits
        )[4:]
        if extensible:
            known += struct.pack(f"{order}HHIIHH8s", 22, bits, 4, tag, 0, 16, SUBFORMAT_TAIL[-8:])
        head = struct.pack(f"{order}4sI4s4sI", b"RIFX" if order == ">" else b"RIFF", 0, b"WAVE", b"fmt ", len(known))
        return head + known + struct.pack(f"{order}4sI", b"data", len(data)) + data

    given = await decode(make(), file(">", swapped.tobytes()))

    assert len(given) == 3000
    assert np.array_equal(given, await decode(make(), file("<", samples.tobytes())))


async def test_opposite_channels_do_not_cancel() -> None:
    given = await decode(make(), wave_of(np.stack([sweep(), -sweep()], axis=1)))

    assert len(given) == 16000
    assert np.square(given).mean() > 0.3 * np.square(sweep()).mean()


async def test_has_no_second_track() -> None:
    with pytest.raises(InvalidRequestError, match="track"):
        async with make().open(pieces(wave_of(sweep())), sample_rate_hz=16000, track=2) as decoded:
            await anext(decoded.blocks)


class WarningDecoder(FakeDecoder):
    async def _decode(
        self,
        source: AsyncIterable[bytes],
        sample_rate_hz: int,  # noqa: ARG002
        *,
        separate: bool,  # noqa: ARG002
    ) -> AsyncIterator[Samples]:
        async for _ in source:
            pass
        yield sweep()
        self.warnings.append(DamagedAudio())


async def test_passes_on_what_the_fallback_warns_of_and_the_track() -> None:
    fallback = WarningDecoder()

    async with WaveDecoder(SoxrResampler(), fallback).open(pieces(b"x"), sample_rate_hz=16000, track=3) as decoded:
        async for _ in decoded.blocks:
            pass

    assert decoded.warnings == [DamagedAudio()]
    assert fallback.tracks == [3]


def make() -> WaveDecoder:
    return WaveDecoder(SoxrResampler(), FakeDecoder())


async def with_warnings(data: bytes) -> tuple[Samples, list[RecordingWarning]]:
    async with make().open(pieces(data), sample_rate_hz=16000) as decoded:
        blocks = [block async for block in decoded.blocks]
    return np.concatenate(blocks), decoded.warnings


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
async def test_brings_each_channel_to_the_rate_by_itself(rate_hz: int) -> None:
    voices = np.stack([sweep(rate_hz=rate_hz), -sweep(rate_hz=rate_hz)[::-1] / 2], axis=1)
    decoder = WaveDecoder(SoxrResampler(), NoFallback())
    async with decoder.open(pieces(wave_of(voices, rate_hz=rate_hz), 1001), sample_rate_hz=16000, separate=True) as it:
        together = np.concatenate([block async for block in it.blocks])

    for number in range(2):
        alone = await decode(decoder, wave_of(voices[:, number], rate_hz=rate_hz))
        assert np.array_equal(together[:, number], alone)


async def test_many_channels_are_not_kept_apart() -> None:
    decoder = WaveDecoder(SoxrResampler(), NoFallback())
    source = pieces(wave_of(np.zeros((100, 17))))
    async with decoder.open(source, sample_rate_hz=16000, separate=True) as decoded:
        with pytest.raises(InvalidRequestError, match="16 channels"):
            await anext(decoded.blocks)


async def test_files_of_different_channels_that_were_joined_are_not_kept_apart() -> None:
    data = wave_of(np.zeros((100, 2))) + wave_of(np.zeros((100, 1)))
    decoder = WaveDecoder(SoxrResampler(), NoFallback())
    async with decoder.open(pieces(data), sample_rate_hz=16000, separate=True) as decoded:
        with pytest.raises(UndecodableAudioError, match="different numbers of channels"):
            [block async for block in decoded.blocks]
