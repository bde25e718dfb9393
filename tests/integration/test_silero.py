import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parakeet_service.adapters.vad.conditioning import ClearedRun, Conditioner, Windows
from parakeet_service.adapters.vad.silero import SileroVad, SileroVadStream
from parakeet_service.adapters.vad.silero_network import Encoded, Frames, SileroNetwork
from parakeet_service.assets import DEMO_RECORDING, SILERO_VAD
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.settings import Settings
from parakeet_service.domain.audio import Encoding, PcmReader, Samples
from parakeet_service.domain.errors import ModelLoadError
from tests.contracts.voice_detector import RATE_HZ, VoiceDetectorContract, in_steps

_DEMO = DEMO_RECORDING


def demo() -> Samples:
    with wave.open(str(_DEMO)) as file:
        assert file.getframerate() == RATE_HZ
        return PcmReader(Encoding.PCM_S16LE).read(file.readframes(4 * RATE_HZ))


_LOADED = SileroVad()
_PIECE = RATE_HZ // 10


class TestSileroDetector(VoiceDetectorContract):
    unknown_rate_hz = 8000

    def make(self) -> SileroVad:
        return _LOADED

    def speech(self) -> Samples:
        return demo()


@pytest.mark.parametrize("level", [1e-3, 1e-2, 0.1])
async def test_noise_is_no_speech(level: float) -> None:
    noise = np.random.default_rng(3).normal(0, level, 10 * RATE_HZ).astype(np.float32)

    assert (await in_steps(_LOADED, noise, RATE_HZ)).max() < 0.2


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01])
async def test_soft_speech_is_speech(gain: float) -> None:
    assert (await in_steps(_LOADED, demo() * np.float32(gain), RATE_HZ) > 0.2).mean() > 0.8


@pytest.mark.parametrize("gain_db", [-60, -70])
@pytest.mark.parametrize("step", [_PIECE, 4 * RATE_HZ])
async def test_speech_is_found_at_any_level(gain_db: float, step: int) -> None:
    soft = demo() * np.float32(10 ** (gain_db / 20))

    assert (await in_steps(_LOADED, soft, step) > 0.2).mean() > 0.7


@pytest.mark.parametrize(("hz", "level"), [(0, 0.05), (0, 0.3), (20, 0.1), (50, 0.1)])
async def test_soft_speech_is_found_beside_an_offset_rumble_or_hum(hz: float, level: float) -> None:
    wave_below = level * np.cos(2 * np.pi * hz * np.arange(len(demo())) / RATE_HZ)
    drowned = demo() * np.float32(0.01) + wave_below.astype(np.float32)

    assert (await in_steps(_LOADED, drowned, RATE_HZ) > 0.2).mean() > 0.7


@pytest.mark.parametrize("level_db", [-110, -90, -70])
async def test_soft_noise_is_no_speech(level_db: float) -> None:
    noise = np.random.default_rng(3).normal(0, 10 ** (level_db / 20), 20 * RATE_HZ).astype(np.float32)

    assert (await in_steps(_LOADED, noise, RATE_HZ)).max() < 0.2


async def test_speech_in_noise_is_speech() -> None:
    loudness = float(np.sqrt(np.square(demo()).mean()))
    noise = np.random.default_rng(3).normal(0, loudness, len(demo())).astype(np.float32)

    assert (await in_steps(_LOADED, demo() + noise, RATE_HZ) > 0.2).mean() > 0.8


@pytest.mark.parametrize("name", ["encoder.onnx", "recurrent.onnx"])
def test_the_model_is_the_one_that_its_readme_names(name: str) -> None:
    digest = hashlib.sha256((SILERO_VAD / name).read_bytes()).hexdigest()

    assert f"| SHA-256 of `{name}` | `{digest}` |" in (SILERO_VAD / "README.md").read_text(encoding="utf-8")


async def test_hears_what_the_original_model_hears() -> None:
    """The script that makes ours writes down the original's probabilities."""
    with wave.open(str(_DEMO)) as file:
        samples = PcmReader(Encoding.PCM_S16LE).read(file.readframes(file.getnframes()))
    original = np.loadtxt(Path(__file__).parent / "original_scores.txt", dtype=np.float32)

    assert np.allclose(await in_steps(_LOADED, samples, RATE_HZ), original, rtol=0, atol=1e-5)


async def test_streams_that_are_read_together_hear_what_each_hears_alone() -> None:
    """Of every length, from less than a frame to more than is read at once, and of more streams than are read at once."""
    samples = np.tile(demo(), 3)
    lengths = [100, 512, 1600, 1600, 140_000, 140_000, *[1600] * 100]
    pieces = [samples[100 * at : 100 * at + length] for at, length in enumerate(lengths)]
    streams = [_LOADED.open(sample_rate_hz=RATE_HZ) for _ in pieces]

    heard = [await asyncio.gather(*map(SileroVadStream.score, streams, pieces)) for _ in range(2)]

    for piece, given in zip(pieces, zip(*heard, strict=True), strict=True):
        alone = await in_steps(_LOADED, np.concatenate([piece, piece]), len(piece))
        assert np.allclose(np.concatenate(given), alone, rtol=0, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells how many threads there are")
async def test_scoring_starts_no_thread_but_ours() -> None:
    await in_steps(_LOADED, demo()[:_PIECE], _PIECE)
    before = len(os.listdir("/proc/self/task"))
    await in_steps(_LOADED, demo(), _PIECE)

    assert len(os.listdir("/proc/self/task")) == before


async def test_what_one_stream_cannot_score_is_told_to_it_alone() -> None:
    bad, good = (_LOADED.open(sample_rate_hz=RATE_HZ) for _ in range(2))

    failing = asyncio.create_task(bad.score(np.zeros((2, 2), np.float32)))
    scored = await good.score(demo()[:_PIECE])

    with pytest.raises(ValueError, match="dimensions"):
        await failing
    assert np.allclose(scored, await in_steps(_LOADED, demo()[:_PIECE], _PIECE), atol=1e-5)


@pytest.mark.parametrize("length", [_PIECE, 4 * RATE_HZ])
async def test_who_leaves_while_it_is_scored_holds_up_nobody(length: int) -> None:
    left, stays = (_LOADED.open(sample_rate_hz=RATE_HZ) for _ in range(2))
    leaving = asyncio.create_task(left.score(demo()[:length]))
    await asyncio.sleep(0)
    leaving.cancel()

    alone = await in_steps(_LOADED, demo()[:length], length)
    assert np.allclose(await stays.score(demo()[:length]), alone, atol=1e-5)
    assert leaving.cancelled()


async def test_a_block_after_one_that_was_given_up_before_it_began_waits_for_nothing() -> None:
    network = _Slow()
    listener: Any = None  # only for what is short
    with ThreadPoolExecutor(1) as threads:
        stream = SileroVadStream(network, listener, threads)
        first, second, third = (asyncio.create_task(stream.score(demo()[: 4 * RATE_HZ])) for _ in range(3))
        await asyncio.to_thread(network.began.wait)
        second.cancel()
        await asyncio.sleep(0)
        network.may_go_on.set()
        assert len(await first) == 125
        with pytest.raises(asyncio.CancelledError):
            await third
        assert second.cancelled()


async def test_what_a_block_cannot_be_searched_for_is_told_to_those_behind_it() -> None:
    stream = _LOADED.open(sample_rate_hz=RATE_HZ)
    stream.signal.conditioner = _Broken(frame_s=0.032)
    first, second = (asyncio.create_task(stream.score(demo()[: 4 * RATE_HZ])) for _ in range(2))
    for task in (first, second):
        with pytest.raises(FloatingPointError):
            await task


class _Broken(Conditioner):
    def clear(self, windows: Windows) -> list[ClearedRun]:
        raise FloatingPointError(len(windows))


class _Slow(SileroNetwork):
    """One whose encoder waits to be told."""

    def __init__(self) -> None:
        super().__init__(SILERO_VAD)
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def encode(self, frames: Sequence[Frames]) -> list[Encoded]:
        self.began.set()
        self.may_go_on.wait()
        return super().encode(frames)


async def test_short_pieces_of_all_streams_are_scored_in_one_thread() -> None:
    before = {thread.name for thread in threading.enumerate()} - {"listener"}
    detector = SileroVad()
    await asyncio.gather(*(in_steps(detector, demo(), _PIECE) for _ in range(8)))

    assert {thread.name for thread in threading.enumerate()} - before == {"listener"}


async def test_long_blocks_are_scored_beside_the_short_pieces() -> None:
    before = [thread.name for thread in threading.enumerate()].count("listener")
    await in_steps(SileroVad(), demo(), len(demo()))

    assert [thread.name for thread in threading.enumerate()].count("listener") == before


@pytest.mark.parametrize(
    "first",
    [
        "from parakeet_service.adapters.vad.silero import SileroVad; SileroVad().load()",
        "from parakeet_service.adapters.onnx.saturation import saturates; saturates()",
        # As the service does, which has both.
        "from parakeet_service import main; from parakeet_service.adapters.vad.silero import SileroVad; SileroVad().load()",
    ],
)
def test_tells_nobody_that_it_is_used(first: str, tmp_path: Path) -> None:
    """ONNX Runtime's reports begin with a file in the directory for temporary ones, unless it thinks it is tested."""
    unset = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    subprocess.run([sys.executable, "-c", first], env={**environment, "TMPDIR": str(tmp_path)}, check=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"no model"])
@pytest.mark.parametrize("name", ["encoder.onnx", "recurrent.onnx"])
def test_a_model_that_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes | None) -> None:
    shutil.copytree(SILERO_VAD, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelLoadError, match="voice activity detector"):
        SileroVad(tmp_path).load()


def test_files_and_live_audio_are_heard_by_one_detector_unless_told_otherwise() -> None:
    container = Container(settings=Settings(model_id="embedded"))
    detector = container.transcribe_file().detector
    assert isinstance(detector, SileroVad)
    assert detector is container.stream_session().detector
