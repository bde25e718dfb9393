"""What is broken, hostile or not audio at all."""

import asyncio
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.decoders.pydub import PydubDecoder
from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.domain.errors import (
    AudioTooLongError,
    EmptyAudioError,
    UndecodableAudioError,
    UploadTooLargeError,
)
from tests.contracts.audio_decoder import decode, sweep, wave_of
from tests.integration.recordings import FORMATS, SIGNAL, encode, recording


@pytest.fixture(params=["ffmpeg", "pydub"])
def decoder(request: pytest.FixtureRequest) -> AudioDecoder:
    if request.param == "ffmpeg":
        return WaveDecoder(SoxrResampler(), FfmpegDecoder(find_ffmpeg()))
    return WaveDecoder(SoxrResampler(), PydubDecoder(find_ffmpeg(), SoxrResampler()))


@pytest.mark.parametrize("seed", range(8))
async def test_refuses_random_bytes(seed: int, decoder: AudioDecoder) -> None:
    data = np.random.default_rng(seed).bytes(10 ** (seed % 4 + 2))
    with pytest.raises(UndecodableAudioError):
        await decode(decoder, data)


@pytest.mark.parametrize(
    "magic", [b"ID3", b"fLaC", b"OggS", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypM4A "]
)
async def test_refuses_random_bytes_that_start_well(magic: bytes, decoder: AudioDecoder) -> None:
    with pytest.raises(UndecodableAudioError):
        await decode(decoder, magic + np.random.default_rng(1).bytes(3000))


@pytest.mark.parametrize("name", [name for name in FORMATS if "video" not in name])
async def test_a_recording_cut_short_gives_what_is_there_or_is_refused(name: str) -> None:
    data, decoder = recording(name), FfmpegDecoder(find_ffmpeg())
    ends = [1, 7, 11, 40, 100, 600, *(len(data) * part // 8 for part in range(1, 8))]
    results = await asyncio.gather(*(decode(decoder, data[:end]) for end in ends), return_exceptions=True)
    for end, result in zip(ends, results, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, UndecodableAudioError | EmptyAudioError), end
        else:
            assert 0 < len(result) <= len(SIGNAL) + 2400
    assert all(isinstance(result, UndecodableAudioError) for result in results[:4])
    # An index at the end is lost; all others are of use as far as they go.
    readable = name not in {"m4a, index at the end", "caf"}
    assert isinstance(results[-1], UndecodableAudioError) is not readable


@pytest.mark.parametrize("extension", ["flac", "wav"])
async def test_a_container_without_samples_is_empty_audio(extension: str) -> None:
    with pytest.raises(EmptyAudioError):
        await decode(FfmpegDecoder(find_ffmpeg()), encode(SIGNAL[:0], "", extension))


async def test_a_video_without_sound_is_refused() -> None:
    silent = encode(SIGNAL, "-f lavfi -i testsrc=s=64x64:r=5 -map 1:v -t 1 -c:v mpeg4", "mp4")
    with pytest.raises(UndecodableAudioError):
        await decode(FfmpegDecoder(find_ffmpeg()), silent)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "m3u8 of bytes": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-BYTERANGE:9000@0\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="a" bandwidth="1" mimeType="audio/mp4"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "smil": '<smil><body><audio src="{url}"/></body></smil>',
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
    "subfile": "{url}",
}


@pytest.mark.parametrize("scheme", ["file", "http"])
@pytest.mark.parametrize("name", PLAYLISTS)
async def test_a_playlist_reads_no_file_and_no_host(
    name: str, scheme: str, decoder: AudioDecoder, tmp_path: Path
) -> None:
    # Nobody ever writes to this: who opens it, waits for ever.
    secret = tmp_path / "secret.wav"
    os.mkfifo(secret)
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.settimeout(0)
        port = host.getsockname()[1]
        url = f"file:{secret}" if scheme == "file" else f"http://127.0.0.1:{port}/secret.wav"
        playlist = PLAYLISTS[name].format(url=url, port=port).encode()
        for data in (playlist, b"\n" * 16 + playlist, playlist + b"\n" * 5000):
            with pytest.raises(UndecodableAudioError):
                await decode(decoder, data)
        with pytest.raises(BlockingIOError):
            host.accept()


def test_without_its_limits_ffmpeg_would_read_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wave_of(sweep()))
    playlist = PLAYLISTS["concat"].format(url=f"file:{secret}").encode()
    bare = "-v error -protocol_whitelist pipe,file -safe 0 -f concat -i pipe:0 -f f32le pipe:1"
    made = subprocess.run([find_ffmpeg(), *bare.split()], input=playlist, capture_output=True, check=True)
    assert len(made.stdout) == 4 * 16000


async def test_pydub_takes_no_more_than_it_may() -> None:
    small = PydubDecoder(find_ffmpeg(), SoxrResampler(), max_bytes=5000)
    with pytest.raises(UploadTooLargeError):
        await decode(small, recording("mp3"))
    short = PydubDecoder(find_ffmpeg(), SoxrResampler(), max_duration_s=1)
    with pytest.raises(AudioTooLongError):
        await decode(short, recording("mp3"))


@pytest.mark.parametrize("name", ["mp3", "m4a, index at the end", "webm"])
async def test_pydub_leaves_no_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    decoder = PydubDecoder(find_ffmpeg(), SoxrResampler())
    await decode(decoder, recording(name))
    with pytest.raises(UndecodableAudioError):
        await decode(decoder, recording(name)[:300])
    assert not os.listdir(tmp_path)
