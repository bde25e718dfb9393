"""Minutes, or hours, of speech on the real model."""

import sys
import wave
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

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
