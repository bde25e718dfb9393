"""What decoding leaves behind: nothing; and what it takes: little."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.decoders.ffmpeg_process import PipedProcess, SocketProcess
from parakeet_service.adapters.decoders.pydub import PydubDecoder
from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.domain.audio import NO_SAMPLES
from parakeet_service.domain.errors import (
    DecoderUnavailableError,
    OutOfResourcesError,
    OverloadedError,
    UndecodableAudioError,
)
from tests.contracts.audio_decoder import decode, pieces, wave_of
from tests.integration.recordings import SIGNAL, likeness, recording


def ffmpegs() -> list[psutil.Process]:
    """Our children, the dead that nobody has buried included."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # It may end while we look.
            if "ffmpeg" in child.name():
                found.append(child)
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def cache_files() -> set[Path]:
    return set(Path("/tmp").glob("ffcache*"))  # noqa: S108 - ffmpeg knows no other place


async def endless(limit_bytes: int = 1 << 40) -> AsyncGenerator[bytes]:
    """A silent 16-bit WAVE of 16 kHz that states no length."""
    yield wave_of(NO_SAMPLES)[:40] + b"\xff\xff\xff\xff"
    for _ in range(0, limit_bytes, 1 << 16):
        yield bytes(1 << 16)


async def stalled(data: bytes) -> AsyncGenerator[bytes]:
    """Some bytes, and then a client that sends no more, and does not go away."""
    yield data
    await asyncio.Event().wait()


HEADER = r"printf '\032\105\337\243\200\030\123\200\147\377\026\124\256\153\203\237\201\001\243\117\244\201\0\0\200'"
"""Of Matroska with one channel, up to the samples of a block of 4000 bytes."""


def fake_ffmpeg(directory: Path, script: str) -> Path:
    program = directory / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Generator[None]:
    before = cache_files()
    yield
    assert not ffmpegs()
    # Those of other tests, in other processes, exist for a moment: until they are unlinked. One that is left stays.
    left = cache_files() - before
    for _ in range(300):
        if not (left := {path for path in left if path.exists()}):
            break
        time.sleep(0.1)
    assert not left


@pytest.fixture(params=[SocketProcess, PipedProcess], ids=["sockets", "pipes, as on Windows"])
def decoder(request: pytest.FixtureRequest) -> FfmpegDecoder:
    return FfmpegDecoder(find_ffmpeg(), patience_s=600, start=request.param.start)


async def test_a_killed_ffmpeg_is_our_fault(decoder: FfmpegDecoder) -> None:
    async with aclosing(endless()) as source, decoder.open(source, sample_rate_hz=16000) as decoded:
        await anext(decoded.blocks)
        (child,) = ffmpegs()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DecoderUnavailableError):
            async for _ in decoded.blocks:
                pass


@pytest.mark.parametrize(
    "script",
    ["kill -9 $$", "kill -11 $$", "exit 127", "head -c 4000 /dev/zero", "echo Failed to create tempfile >&2; exit 1"],
)
async def test_a_broken_ffmpeg_is_our_fault(script: str, tmp_path: Path) -> None:
    program = fake_ffmpeg(tmp_path, script)
    with pytest.raises(DecoderUnavailableError) as caught:
        await decode(FfmpegDecoder(program), recording("mp3"))
    assert "tempfile" not in caught.value.message


async def test_an_ffmpeg_that_lacks_memory_does_not_pass_for_one_that_is_done(tmp_path: Path) -> None:
    program = fake_ffmpeg(
        tmp_path,
        f"head -c 8 >/dev/null; {HEADER}; head -c 4000 /dev/zero; echo [fatal] Cannot allocate memory >&2; exit 1",
    )
    with pytest.raises(UndecodableAudioError):
        await decode(FfmpegDecoder(program), recording("mp3"))


@pytest.mark.skipif(sys.platform != "linux", reason="nobody can limit another process")
async def test_an_ffmpeg_may_use_so_much_memory_and_no_more(tmp_path: Path) -> None:
    # Once it has read something, the limit is there.
    program = fake_ffmpeg(tmp_path, f"head -c 8 >/dev/null; ulimit -d > {tmp_path}/limit; exit 1")
    with pytest.raises(UndecodableAudioError):
        await decode(FfmpegDecoder(program), recording("mp3"))
    assert (tmp_path / "limit").read_text().strip() == str(384 << 10)


async def test_descriptors_that_are_used_up_are_a_reason_to_try_again(decoder: FfmpegDecoder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, hard))
    try:
        with pytest.raises(OutOfResourcesError):
            await decode(decoder, recording("mp3"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_a_wrapper_has_started_ends_with_it(tmp_path: Path) -> None:
    program = fake_ffmpeg(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; {HEADER}; head -c 4000 /dev/zero; wait")
    async with aclosing(endless()) as source, FfmpegDecoder(program).open(source, sample_rate_hz=16000) as decoded:
        await anext(decoded.blocks)
        pid = int((tmp_path / "pid").read_text())
        assert psutil.pid_exists(pid)
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


async def test_pydub_tells_a_killed_ffmpeg_from_a_bad_file(tmp_path: Path) -> None:
    program = fake_ffmpeg(tmp_path, "kill -9 $$")
    with pytest.raises(DecoderUnavailableError):
        await decode(PydubDecoder(program, SoxrResampler()), recording("mp3"))


@pytest.mark.parametrize("name", ["mp3", "m4a, index at the end"])
async def test_cancelling_while_the_client_stalls_ends_everything(name: str, decoder: FfmpegDecoder) -> None:
    work = asyncio.create_task(decode(decoder, stalled(recording(name)[:20000])))
    await until(lambda: bool(ffmpegs()))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not ffmpegs()


async def test_cancelling_twice_ends_everything(decoder: FfmpegDecoder) -> None:
    work = asyncio.create_task(decode(decoder, endless()))
    await until(lambda: bool(ffmpegs()))
    work.cancel()
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    # What is left to do is done behind the caller's back.
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert not ffmpegs()


async def test_leaving_while_output_waits_ends_everything(decoder: FfmpegDecoder) -> None:
    async with aclosing(endless()) as source, decoder.open(source, sample_rate_hz=16000) as decoded:
        await anext(decoded.blocks)
        await asyncio.sleep(0.1)
    assert not ffmpegs()


async def test_pydub_is_done_before_a_cancelled_caller_goes_on() -> None:
    work = asyncio.create_task(decode(PydubDecoder(find_ffmpeg(), SoxrResampler()), recording("mp3")))
    await until(lambda: bool(ffmpegs()))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not ffmpegs()


async def test_cancelling_ends_an_ffmpeg_that_would_go_on_for_ever(tmp_path: Path) -> None:
    program = fake_ffmpeg(tmp_path, "head -c 1 >/dev/null; touch $0.started; exec sleep 600")
    work = asyncio.create_task(decode(FfmpegDecoder(program), recording("mp3")))
    await until((tmp_path / "ffmpeg.started").exists)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_ffmpeg_sees_no_secrets_and_takes_no_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "key")
    monkeypatch.setenv("FFREPORT", "file=report.log")
    with pytest.raises(UndecodableAudioError):
        await decode(FfmpegDecoder(fake_ffmpeg(tmp_path, "env >$0.env; exit 1")), recording("mp3"))
    seen = (tmp_path / "ffmpeg.env").read_text()
    assert "PATH=" in seen
    assert "API_KEYS" not in seen
    assert "FFREPORT" not in seen


async def test_an_ffmpeg_that_stops_reading_early_is_judged_by_its_end(tmp_path: Path) -> None:
    program = fake_ffmpeg(tmp_path, "exec 0<&-; sleep 0.3; exit 1")
    with pytest.raises(UndecodableAudioError):
        await decode(FfmpegDecoder(program), endless())


async def test_thirty_at_once_take_turns() -> None:
    decoder, most = FfmpegDecoder(find_ffmpeg(), max_processes=3, patience_s=600), 0

    async def one() -> int:
        nonlocal most
        length = 0
        async with decoder.open(pieces(recording("ogg opus")), sample_rate_hz=16000) as decoded:
            async for block in decoded.blocks:
                most = max(most, len(ffmpegs()))
                length += len(block)
        return length

    lengths = await asyncio.gather(*(one() for _ in range(30)))
    assert len(set(lengths)) == 1
    assert 1 <= most <= 3


async def test_turns_away_who_finds_no_place() -> None:
    decoder = FfmpegDecoder(find_ffmpeg(), max_processes=1, patience_s=0.05)
    holding = asyncio.create_task(decode(decoder, stalled(recording("flac")[:5000])))
    await until(lambda: bool(ffmpegs()))
    with pytest.raises(OverloadedError):
        await decode(decoder, pieces(recording("flac")))
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    assert len(await decode(decoder, pieces(recording("flac"))))


async def test_thirty_mixed_recordings_at_once(decoder: FfmpegDecoder) -> None:
    names = ["mp3", "m4a, index at the end", "webm", "flac", "mp4 video"] * 6
    for samples in await asyncio.gather(*(decode(decoder, recording(name)) for name in names)):
        assert likeness(samples, SIGNAL) > 0.99


@pytest.mark.parametrize("which", ["wave", "ffmpeg"])
async def test_memory_does_not_grow_with_the_recording(which: str, decoder: FfmpegDecoder) -> None:
    chosen: AudioDecoder = WaveDecoder(SoxrResampler(), decoder) if which == "wave" else decoder
    given = 0
    peaks: list[int] = []
    async with chosen.open(endless(96 << 20), sample_rate_hz=16000) as decoded:
        async for block in decoded.blocks:
            given += len(block)
            if given % (1 << 22) < len(block):
                peaks.append(sum(process.memory_info().rss for process in (psutil.Process(), *ffmpegs())))
    assert given >= 48 << 20
    assert max(peaks) - peaks[0] < 24 << 20
