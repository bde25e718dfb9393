"""Ten minutes of speech on the real model."""

import sys
import wave
from io import BytesIO
from pathlib import Path

import httpx2

from tests.integration.processes import SAMPLE, started, wait_until_ok
from tests.integration.test_uploads import peak_memory_of

RATE_HZ = 16000


def ten_minutes() -> bytes:
    """Utterances of 3 to 10 s, of many lengths: the model's buffers for one do not fit the next."""
    with wave.open(str(SAMPLE)) as file, BytesIO() as buffer:
        frames = file.readframes(file.getnframes())
        with wave.open(buffer, "wb") as longer:
            longer.setparams(file.getparams())
            number = 0
            while longer.tell() < 600 * RATE_HZ:
                number += 1
                length_s = 3 + number * 0.618 * 7 % 7
                longer.writeframes(frames[: round(length_s * RATE_HZ) * 2] + bytes(2 * RATE_HZ))
        return buffer.getvalue()


async def test_ten_minutes_take_less_than_300_mb_over_what_the_service_has_when_it_is_ready(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    with started(command, cwd=tmp_path, MODEL_ID="embedded", LOG_FORMAT="json") as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        async with (
            httpx2.AsyncClient(base_url=url, trust_env=False, timeout=120) as client,
            peak_memory_of(server.process.pid) as grown,
        ):
            answer = await client.post("/transcribe", files={"file": ("long.wav", ten_minutes())})

    assert answer.json()["text"].count("early part") > 70
    assert grown[0] < 300e6
