"""Minutes, or hours, of speech on the real model."""

import subprocess
import sys
import wave
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import pytest

from parakeet_service.adapters.decoders.ffmpeg import find_ffmpeg
from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE, started, wait_until_ok
from tests.integration.test_uploads import peak_memory_of

RATE_HZ = 16000


def speech_of(minutes: int) -> bytes:
    """Utterances of 3 to 10 s, of many lengths: the model's buffers for one do not fit the next."""
    with wave.open(str(SAMPLE)) as file, BytesIO() as buffer:
        frames = file.readframes(file.getnframes())
        with wave.open(buffer, "wb") as longer:
            longer.setparams(file.getparams())
            number = 0
            while longer.tell() < minutes * 60 * RATE_HZ:
                number += 1
                length_s = 3 + number * 0.618 * 7 % 7
                longer.writeframes(frames[: round(length_s * RATE_HZ) * 2] + bytes(2 * RATE_HZ))
        return buffer.getvalue()


@pytest.mark.parametrize("minutes", [10, pytest.param(230, marks=pytest.mark.soak)])
async def test_a_recording_takes_less_than_300_mb_over_what_the_service_has_when_it_is_ready(
    tmp_path: Path, minutes: int
) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    with started(command, cwd=tmp_path, MODEL_ID="embedded", LOG_FORMAT="json", PROCESSING_TIMEOUT="7200") as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        async with (
            httpx2.AsyncClient(base_url=url, trust_env=False, timeout=None) as client,
            peak_memory_of(server.process.pid) as grown,
        ):
            answer = await client.post("/transcribe", files={"file": ("long.wav", speech_of(minutes))})

    assert answer.json()["text"].count("early part") > 7 * minutes
    assert grown[0] < 300e6


MARK_S, BETWEEN_S = 4, 59.93
"""Each mark is the beginning of the sample; the time from one to the next fits no frame of any codec."""


def marked(directory: Path, extension: str, *, marks: int) -> Path:
    """A recording of so many marks, silent between them."""
    with wave.open(str(SAMPLE)) as file:
        sample = np.frombuffer(file.readframes(MARK_S * RATE_HZ), "<i2")
    samples = np.zeros(round((marks * BETWEEN_S + 1) * RATE_HZ), np.int16)
    for number in range(marks):
        at = round(number * BETWEEN_S * RATE_HZ)
        samples[at : at + len(sample)] = sample
    plain, path = directory / "plain.wav", directory / f"marked.{extension}"
    with wave.open(str(plain), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    codec = {"ogg": "-c:a libopus", "ts": "-c:a mp2 -ar 44100", "mkv": "-c:a aac -ar 22050"}.get(extension, "")
    subprocess.run([find_ffmpeg(), "-v", "error", "-i", plain, *codec.split(), path], check=True)
    return path


@pytest.mark.parametrize("marks", [3, pytest.param(120, marks=pytest.mark.soak)])
@pytest.mark.parametrize("extension", ["wav", "mp3", "ogg", "m4a", "ts", "mkv"])
async def test_times_do_not_drift(shared_server: SharedServer, tmp_path: Path, extension: str, marks: int) -> None:
    _, url = shared_server(PROCESSING_TIMEOUT="7200")
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=None) as client:
        data = marked(tmp_path, extension, marks=marks).read_bytes()
        answer = await client.post("/transcribe", files={"file": data}, data={"include_timestamps": "true"})

    words = answer.json()["timestamps"]["words"]
    starts = np.array([word["start"] for word in words if word["text"].lower().startswith("early")])
    assert len(starts) == marks
    late_s = starts - np.arange(marks) * BETWEEN_S
    # A frame of the encoder is 0.08 s.
    assert np.ptp(late_s) < 0.2
