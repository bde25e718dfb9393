"""Starting processes must not disturb the matrix library's threads, which a fork would end in the middle of their work."""

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import asyncio, sys, uvloop
from pathlib import Path
from contextlib import suppress
import numpy as np
from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.domain.errors import UndecodableAudioError

async def main():
    model = parakeet_mlx_model(model_id="embedded", precision="bf16", offline=True, sample_rate_hz=16000, batch_size=4, cache_limit_bytes=256 << 20,
                             most_waiting=64, most_streams=4)
    await model.start()
    noise = np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32)
    decoder = FfmpegDecoder(find_ffmpeg())
    refused = windows = 0

    async def garbage():
        yield b"nothing that anyone could play" * 10

    async def decode():
        nonlocal refused
        while windows < 40 or refused <= 20:
            with suppress(UndecodableAudioError):
                async with decoder.open(garbage(), sample_rate_hz=16000) as decoded:
                    async for _ in decoded.blocks:
                        pass
                continue
            refused += 1

    decoding = asyncio.gather(decode(), decode())
    while not decoding.done():
        await model.transcribe(noise)
        windows += 1
    await decoding
    await model.aclose()
    print("enough")

uvloop.run(main())
"""


def test_inference_goes_on_while_processes_are_started(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=600)
    assert ran.stdout.splitlines()[-1] == "enough"
