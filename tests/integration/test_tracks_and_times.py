"""What a container says of its tracks and of time, and what becomes of that."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.decoders.pydub import PydubDecoder
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InvalidRequestError, UndecodableAudioError
from parakeet_service.domain.recording_warnings import DamagedAudio, FurtherTracks, RecordingWarning
from tests.contracts.audio_decoder import pieces
from tests.integration.recordings import FORMATS, recording

RATE_HZ = 16_000
SECOND = "-f lavfi -i sine=frequency=400:sample_rate=16000:duration=1"
SILENT = "-f lavfi -i anullsrc=r=16000:cl=mono:d=3"
VIDEO = "-f lavfi -i testsrc=s=64x48:r=10:d={}"


def made(options: str, extension: str, before: bytes = b"") -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"recording.{extension}"
        (Path(directory) / "before").write_bytes(before)
        command: list[str | Path] = [
            find_ffmpeg(),
            "-v",
            "error",
            *options.format(before=Path(directory) / "before").split(),
            path,
        ]
        subprocess.run(command, check=True)
        return path.read_bytes()


async def decoded(
    data: bytes, *, track: int | None = None, decoder: AudioDecoder | None = None
) -> tuple[Samples, list[RecordingWarning]]:
    decoder = decoder or FfmpegDecoder(find_ffmpeg())
    async with decoder.open(pieces(data), sample_rate_hz=RATE_HZ, track=track) as opened:
        blocks = [block async for block in opened.blocks]
    return np.concatenate(blocks), opened.warnings


def begins_s(samples: Samples) -> float:
    return float(np.argmax(np.abs(samples) > 0.02)) / RATE_HZ


def codec_of(extension: str) -> str:
    return {"webm": "-c:a libopus -ar 48000 -c:v libvpx", "ts": "-c:a mp2 -c:v mpeg2video"}.get(
        extension, "-c:a aac -c:v mpeg4"
    )


class TestTracks:
    @pytest.mark.parametrize("extension", ["mp4", "mkv"])
    async def test_the_one_that_is_marked_as_default_is_read(self, extension: str) -> None:
        options = f"{SILENT} {SECOND} -map 0 -map 1 -disposition:0 0 -disposition:1 default -c:a aac"
        samples, warnings = await decoded(made(options, extension))

        assert np.abs(samples).max() > 0.05
        assert [type(one) for one in warnings] == [FurtherTracks]
        assert "track 2 of 2" in warnings[0].message

    @pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "mov"])
    async def test_the_first_is_read_where_none_is_marked(self, extension: str) -> None:
        options = f"{SECOND} {SILENT} -map 0 -map 1 -disposition:0 0 -disposition:1 0 -c:a aac"
        samples, warnings = await decoded(made(options, extension))

        assert np.abs(samples).max() > 0.05
        assert "track 1 of 2" in warnings[0].message

    async def test_another_can_be_chosen(self) -> None:
        data = made(f"{SECOND} {SILENT} -map 0 -map 1 -disposition:0 default -c:a aac", "mkv")

        assert np.abs((await decoded(data, track=1))[0]).max() > 0.05
        assert np.abs((await decoded(data, track=2))[0]).max() < 0.01
        with pytest.raises(InvalidRequestError, match="track"):
            await decoded(data, track=3)

    async def test_pydub_cannot_choose_and_says_so(self) -> None:
        with pytest.raises(InvalidRequestError, match="pydub"):
            await decoded(recording("mp3"), track=1, decoder=PydubDecoder(find_ffmpeg(), SoxrResampler()))

    async def test_languages_are_told(self) -> None:
        tags = "-metadata:s:a:0 language=eng -metadata:s:a:1 language=deu"
        _, (warning,) = await decoded(made(f"{SECOND} {SILENT} -map 0 -map 1 {tags} -c:a aac", "mkv"))

        assert isinstance(warning, FurtherTracks)
        assert [about.split(",")[0] for about in warning.tracks] == ["eng", "ger"] or [
            about.split(",")[0] for about in warning.tracks
        ] == ["eng", "deu"]

    async def test_a_video_without_sound_is_told_from_damage(self) -> None:
        with pytest.raises(UndecodableAudioError, match="no audio track"):
            await decoded(made(f"{VIDEO.format(1)} -c:v mpeg4", "mp4"))


class TestChannels:
    @pytest.mark.parametrize(
        ("extension", "channel"),
        # AAC itself has nothing above 120 Hz in its fourth channel.
        [*(("flac", channel) for channel in range(6)), *(("m4a", channel) for channel in (0, 1, 2, 4, 5))],
    )
    async def test_none_of_surround_sound_is_left_out(self, extension: str, channel: int) -> None:
        pan = "|".join(f"c{at}={'c0' if at == channel else '0*c0'}" for at in range(6))
        samples, _ = await decoded(made(f"{SECOND} -af pan=5.1|{pan}", extension))

        assert np.abs(samples[2000:-2000]).max() > 0.05 / 6

    @pytest.mark.parametrize("extension", ["flac", "mp3", "m4a", "ogg"])
    @pytest.mark.parametrize("name", ["ffmpeg", "pydub"])
    async def test_opposite_ones_do_not_cancel(self, extension: str, name: str) -> None:
        decoder = FfmpegDecoder(find_ffmpeg()) if name == "ffmpeg" else PydubDecoder(find_ffmpeg(), SoxrResampler())
        data = made(f"{SECOND} -af pan=stereo|c0=c0|c1=-1*c0", extension)

        assert np.abs((await decoded(data, decoder=decoder))[0]).max() > 0.05


class TestTimes:
    @pytest.mark.parametrize("late_s", [0.3, 4.9, 30])
    @pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "webm", "mov"])
    async def test_audio_that_starts_late_stands_late(self, extension: str, late_s: float) -> None:
        options = f"{VIDEO.format(late_s + 3)} -itsoffset {late_s} {SECOND} -map 0 -map 1 {codec_of(extension)}"
        samples, _ = await decoded(made(options, extension))

        assert begins_s(samples) == pytest.approx(late_s, abs=0.1)
        assert len(samples) / RATE_HZ == pytest.approx(late_s + 1, abs=0.15)

    @pytest.mark.parametrize("hole_s", [0.5, 8, 14])
    @pytest.mark.parametrize("extension", ["mp4", "mkv", "ts", "webm"])
    async def test_a_hole_is_silence(self, extension: str, hole_s: float) -> None:
        tone = "-f lavfi -i sine=frequency=400:sample_rate=16000:duration=2"
        hole = f"-af asetpts=PTS+gte(T\\,1)*{hole_s}/TB"
        samples, _ = await decoded(made(f"{tone} {hole} {codec_of(extension)}", extension))

        assert len(samples) / RATE_HZ == pytest.approx(2 + hole_s, abs=0.15)
        assert np.abs(samples[int(1.2 * RATE_HZ) : int((0.8 + hole_s) * RATE_HZ)]).max(initial=0) < 0.01

    @pytest.mark.parametrize("extension", ["webm", "ogg", "ts", "mp3", "aac"])
    async def test_recordings_that_were_joined_are_read_one_after_the_other(self, extension: str) -> None:
        codec = {"webm": "-c:a libopus", "ogg": "-c:a libopus", "ts": "-c:a mp2"}.get(extension, "")
        once = made(f"{SECOND} -ar 48000 {codec}", extension)
        samples, _ = await decoded(once * 2)

        assert len(samples) / RATE_HZ == pytest.approx(2, abs=0.2)

    @pytest.mark.parametrize(
        ("extension", "first", "second"),
        [
            ("ts", "-c:a mp2 -ar 48000 -ac 1", "-c:a mp2 -ar 48000 -ac 2"),
            ("ts", "-c:a mp2 -ar 48000", "-c:a mp2 -ar 32000"),
            ("ts", "-c:a ac3 -ar 48000 -ac 2", "-c:a ac3 -ar 48000 -ac 6"),
            ("mp3", "-ar 44100 -ac 2", "-ar 22050 -ac 1"),
            ("aac", "-ar 16000 -ac 2", "-ar 16000 -ac 1"),
        ],
    )
    async def test_audio_whose_format_changes_on_the_way_keeps_its_times(
        self, extension: str, first: str, second: str
    ) -> None:
        tone = "-f lavfi -i sine=frequency=400:sample_rate=16000:duration=4"
        later = "-output_ts_offset 4" if extension == "ts" else ""
        samples, _ = await decoded(made(f"{tone} {first}", extension) + made(f"{tone} {second} {later}", extension))

        assert len(samples) / RATE_HZ == pytest.approx(8, abs=0.3)
        assert np.abs(samples[int(4.3 * RATE_HZ) : int(4.6 * RATE_HZ)]).max() > 0.02

    @pytest.mark.parametrize("name", FORMATS)
    async def test_sound_recordings_keep_their_length_and_have_no_warnings(self, name: str) -> None:
        samples, warnings = await decoded(recording(name))

        assert len(samples) / RATE_HZ == pytest.approx(3, abs=0.15)
        assert warnings == []


class TestDamage:
    async def test_it_is_told_and_what_follows_keeps_its_time(self) -> None:
        tones = "-f lavfi -i sine=frequency=400:sample_rate=16000:duration=1 -af apad=pad_dur=8,volume=1"
        marker = "-f lavfi -i sine=frequency=900:sample_rate=16000:duration=1"
        whole = made(
            f"{tones.split(' -af', maxsplit=1)[0]} {marker} -filter_complex [0]apad=pad_dur=8[a];[a][1]concat=v=0:a=1 -c:a mp3",
            "mkv",
        )
        bad = bytearray(whole)
        noise = np.random.default_rng(0).integers(0, 256, len(bad) // 5, np.uint8).tobytes()
        at = int(len(bad) * 0.3)
        bad[at : at + len(noise)] = noise

        samples, warnings = await decoded(bytes(bad))

        assert warnings == [DamagedAudio()]
        assert len(samples) / RATE_HZ == pytest.approx(10, abs=0.2)
