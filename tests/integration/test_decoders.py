"""Every decoder on real recordings."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.decoders.ffmpeg_process import PipedProcess
from parakeet_service.adapters.decoders.pydub import PydubDecoder
from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.domain.errors import DecoderUnavailableError
from tests.contracts.audio_decoder import AudioDecoderContract, decode, pieces, sweep
from tests.integration.recordings import FORMATS, SIGNAL, encode, likeness, recording


def bundled_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        return find_ffmpeg()


@pytest.fixture(params=["of the system", "of the wheel"])
def ffmpeg(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "of the wheel":
        return bundled_ffmpeg(monkeypatch)
    if (system := shutil.which("ffmpeg")) is None:
        pytest.skip("the system has no ffmpeg")
    return Path(system)


class TestFfmpegDecoder(AudioDecoderContract):
    turn_s = 0.01

    def make(self) -> FfmpegDecoder:
        return FfmpegDecoder(find_ffmpeg())


class TestFfmpegDecoderWithPipes(AudioDecoderContract):
    """As on Windows."""

    turn_s = 0.01

    def make(self) -> FfmpegDecoder:
        return FfmpegDecoder(find_ffmpeg(), start=PipedProcess.start)


async def test_more_recordings_than_threads_are_decoded_at_once_through_pipes() -> None:
    decoder = FfmpegDecoder(find_ffmpeg(), max_processes=40, start=PipedProcess.start)
    given = await asyncio.gather(*(decode(decoder, recording("mp3")) for _ in range(40)))
    assert all(len(samples) == len(given[0]) > 0 for samples in given)


class TestWaveThenFfmpegDecoder(AudioDecoderContract):
    turn_s = 0.01

    def make(self) -> WaveDecoder:
        return WaveDecoder(SoxrResampler(), FfmpegDecoder(find_ffmpeg()))


class TestPydubDecoder(AudioDecoderContract):
    reads_as_it_goes = False

    def make(self) -> PydubDecoder:
        return PydubDecoder(find_ffmpeg(), SoxrResampler())


async def assert_reads(decoder: AudioDecoder, name: str, size: int = 1 << 16) -> None:
    given = await decode(decoder, pieces(recording(name), size))
    assert abs(len(given) - len(SIGNAL)) < 2400
    assert likeness(given, SIGNAL) > 0.99
    # Neither louder nor softer, however many channels there were.
    assert np.abs(given).max() == pytest.approx(np.abs(SIGNAL).max(), rel=0.1)


@pytest.mark.parametrize("name", FORMATS)
async def test_ffmpeg_reads(name: str, ffmpeg: Path) -> None:
    await assert_reads(FfmpegDecoder(ffmpeg), name)


@pytest.mark.parametrize("name", ["mp3", "m4a, index at the end", "mu-law wav of 8 kHz", "float wav of 48 kHz"])
async def test_wave_and_ffmpeg_read(name: str) -> None:
    await assert_reads(WaveDecoder(SoxrResampler(), FfmpegDecoder(find_ffmpeg())), name, 777)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "mpeg-ts video"])
async def test_pydub_reads(name: str) -> None:
    await assert_reads(WaveDecoder(SoxrResampler(), PydubDecoder(find_ffmpeg(), SoxrResampler())), name)


async def test_an_index_far_behind_the_samples_is_found(ffmpeg: Path) -> None:
    # So far that ffmpeg's buffer alone, which helps short recordings, cannot go back.
    long = sweep(duration_s=45)
    data = encode(long, "-ar 48000 -c:a aac -b:a 256k", "m4a")
    assert data.index(b"moov") > 500_000
    assert likeness(await decode(FfmpegDecoder(ffmpeg), data), long) > 0.99


async def test_the_asked_rate_may_be_any() -> None:
    given = await decode(FfmpegDecoder(find_ffmpeg()), recording("flac"), sample_rate_hz=8000)
    assert abs(len(given) - len(SIGNAL) / 2) < 100


def test_the_ffmpeg_of_the_system_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == program


def test_no_variable_chooses_the_ffmpeg_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    assert find_ffmpeg().name.startswith("ffmpeg-")


@pytest.mark.parametrize("name", ["absent", "not executable"])
async def test_a_missing_ffmpeg_is_our_fault(name: str, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    if name == "not executable":
        program.write_text("")
    for decoder in (FfmpegDecoder(program), PydubDecoder(program, SoxrResampler())):
        with pytest.raises(DecoderUnavailableError):
            await decode(decoder, recording("mp3"))
