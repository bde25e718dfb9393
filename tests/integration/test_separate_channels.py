"""A call of two people on the real model: each has a channel of their own, as telephone systems record it."""

import subprocess
import tempfile
import wave
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from parakeet_service.adapters.decoders.ffmpeg import find_ffmpeg
from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE


def _sample() -> np.ndarray[Any, np.dtype[np.int16]]:
    with wave.open(str(SAMPLE)) as file:
        assert file.getframerate() == 16000
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def _channels() -> np.ndarray[Any, np.dtype[np.int16]]:
    """The sample on the left, and again on the right once it has ended."""
    said = _sample()
    frames = np.zeros((2 * len(said), 2), "<i2")
    frames[: len(said), 0] = said
    frames[len(said) :, 1] = said
    return frames


def _file(samples: np.ndarray[Any, np.dtype[np.int16]]) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as writing:
        writing.setnchannels(1)
        writing.setsampwidth(2)
        writing.setframerate(16000)
        writing.writeframes(samples.tobytes())
    return file.getvalue()


def call(options: str, extension: str) -> bytes:
    """The two channels as a file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"call.{extension}"
        command: list[str | Path] = [
            find_ffmpeg(),
            *"-loglevel error -f s16le -ar 16000 -ac 2 -i pipe:0".split(),
            *options.split(),
            path,
        ]
        subprocess.run(command, input=_channels().tobytes(), check=True)
        return path.read_bytes()


def ask(url: str, file: bytes, **fields: str) -> Any:
    sent = {"include_timestamps": "true", **fields}
    answer = httpx2.post(f"{url}/transcribe", files={"file": file}, data=sent, trust_env=False, timeout=600)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("options", "extension"), [("-c:a pcm_s16le", "wav"), ("-ar 8000 -c:a pcm_mulaw", "wav"), ("-c:a flac", "flac")]
)
def test_each_person_has_a_channel(shared_server: SharedServer, options: str, extension: str) -> None:
    url = shared_server()[1]
    body = ask(url, call(options, extension), channels="separate")
    segments = body["timestamps"]["segments"]
    assert {one["channel"] for one in segments} == {0, 1}
    ends = max(one["end"] for one in segments if one["channel"] == 0)
    assert ends <= min(one["start"] for one in segments if one["channel"] == 1) + 0.5
    if "mulaw" not in options:
        alone = [ask(url, _file(one))["text"] for one in _channels().T]
        assert body["text"] == " ".join(alone)


def test_dual_mono_is_as_mono(shared_server: SharedServer) -> None:
    url = shared_server()[1]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "both.wav"
        subprocess.run([find_ffmpeg(), "-loglevel", "error", "-i", SAMPLE, "-ac", "2", path], check=True)
        both = ask(url, path.read_bytes(), channels="separate")
    alone = ask(url, SAMPLE.read_bytes())
    assert both["text"] == alone["text"]
    assert {one["channel"] for one in both["timestamps"]["words"]} == {0}
