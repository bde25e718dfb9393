"""Recordings of a known signal in many formats, made with ffmpeg."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from parakeet_service.adapters.decoders.ffmpeg import find_ffmpeg
from parakeet_service.domain.audio import Samples
from tests.contracts.audio_decoder import sweep

DURATION_S = 3.0
SIGNAL = sweep(duration_s=DURATION_S)

_INPUT = "-hide_banner -loglevel error -f f32le -ar 16000 -ac 1 -i pipe:0"
_VIDEO = "-f lavfi -i testsrc=s=160x120:r=10"
# Not `-ac 2`, which makes each channel softer.
_STEREO = "-af pan=stereo|c0=c0|c1=c0"
# Name: the options of ffmpeg that make it, after the signal as its first input; and the file's extension.
FORMATS = {
    "mp3": ("-c:a libmp3lame -b:a 128k", "mp3"),
    "mp3 of two channels": (f"{_STEREO} -c:a libmp3lame -b:a 192k", "mp3"),
    "m4a, index at the end": ("-c:a aac -b:a 128k", "m4a"),
    "m4a, index first": ("-c:a aac -b:a 128k -movflags +faststart", "m4a"),
    "m4a in fragments": ("-c:a aac -b:a 128k -movflags +frag_keyframe+empty_moov", "m4a"),
    "aac": ("-c:a aac -b:a 128k", "aac"),
    "caf": ("-c:a alac", "caf"),
    "flac": ("-ar 44100 -c:a flac", "flac"),
    "flac of six channels": ("-af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0 -c:a flac", "flac"),
    "ogg opus": ("-ar 48000 -c:a libopus -b:a 64k", "ogg"),
    "webm": ("-ar 48000 -c:a libopus -b:a 64k", "webm"),
    "mu-law wav of 8 kHz": ("-ar 8000 -c:a pcm_mulaw", "wav"),
    "float wav of 48 kHz": (f"{_STEREO} -ar 48000 -c:a pcm_f32le", "wav"),
    "mp4 video": (f"{_VIDEO} -map 0:a -map 1:v -shortest -c:v mpeg4 -c:a aac", "mp4"),
    "mkv video": (f"{_VIDEO} -map 1:v -map 0:a -shortest -c:v mpeg4 -c:a libmp3lame", "mkv"),
    "avi video": (f"{_VIDEO} -map 1:v -map 0:a -shortest -c:v mpeg4 -c:a libmp3lame", "avi"),
    "mpeg-ts video": (f"{_VIDEO} -map 1:v -map 0:a -shortest -c:v mpeg2video -c:a mp2", "ts"),
}


@cache
def recording(name: str) -> bytes:
    options, extension = FORMATS[name]
    return encode(SIGNAL, options, extension)


def encode(samples: Samples, options: str, extension: str) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"recording.{extension}"
        subprocess.run(
            [
                find_ffmpeg(),
                *_INPUT.split(),
                *options.split(),
                path,
            ],
            input=samples.tobytes(),
            check=True,
        )
        return path.read_bytes()


def likeness(given: Samples, original: Samples, *, lag: int = 1200) -> float:
    """The largest correlation of the two at any shift up to `lag` samples, since encoders add some delay."""
    size = 2 * max(len(given), len(original))
    products = np.fft.irfft(np.fft.rfft(given, size) * np.conj(np.fft.rfft(original, size)))
    best = float(np.concatenate([products[: lag + 1], products[-lag:]]).max())
    return best / float(np.linalg.norm(given) * np.linalg.norm(original))
