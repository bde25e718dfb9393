"""Compressed recordings and videos, decoded by an ffmpeg subprocess that can read its own input and nothing else."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import structlog

from ...application.ports.audio_decoder import DecodedAudio
from ...domain.audio import Samples
from ...domain.errors import (
    DecoderUnavailableError,
    EmptyAudioError,
    InvalidRequestError,
    OverloadedError,
    StorageFullError,
    UndecodableAudioError,
    shortage_behind,
)
from ...domain.recording_warnings import DamagedAudio, FurtherTracks, RecordingWarning
from .ffmpeg_process import FfmpegProcess, start_ffmpeg
from .matroska_audio import MatroskaAudioReader

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# No demuxer that follows references (hls, concat, dash, sdp, image2, imf ...), runs scripts, or takes any bytes as
# audio. References inside mp4 are off unless asked for.
_DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,tta,voc,w64,wav,wv"
)
# These have, or may have, their index behind the samples.
_INDEXED_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_HEAD_BYTES = 8
_BLOCK_BYTES = 1 << 16
_LOG_BYTES = 1 << 12
_MOST_TRACKS = 64
_LARGEST_STATUS = 255
# What ffmpeg says of each pipe that it caches, good or bad, and what it says when the cache itself fails.
_NOISE = ("Inner protocol failed to seekback", "Last message repeated", "non monotonically increasing dts")
_CACHE_FAILURES = ("Failed to create tempfile", "write in cache failed")


class FfmpegDecoder:
    """Decodes what ffmpeg can, one process per recording, at most `max_processes` at once.

    Who finds no place within `patience_s` is turned away.

    A recording that is cut short gives the samples that are there; only one without a single readable sample is
    undecodable. Samples stand where their presentation times say. Containers of the mp4 and caf kind may end with their index, so ffmpeg keeps what it has read of
    them in a file under ``/tmp`` that it unlinks before writing to it; all others are decoded as they arrive.
    """

    def __init__(
        self,
        executable: Path,
        *,
        max_processes: int = 16,
        patience_s: float = 10.0,
        start: Callable[[Sequence[str]], FfmpegProcess] = start_ffmpeg,
    ) -> None:
        self._executable = executable
        self._start_process = start
        self._slots = asyncio.Semaphore(max_processes)
        self._patience_s = patience_s

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        """Decode `source`; see the port."""
        warnings: list[RecordingWarning] = []
        async with aclosing(self._decode(aiter(source), sample_rate_hz, track, warnings, separate=separate)) as blocks:
            yield DecodedAudio(blocks, warnings)

    async def _decode(
        self,
        source: AsyncIterator[bytes],
        sample_rate_hz: int,
        track: int | None,
        warnings: list[RecordingWarning],
        *,
        separate: bool,
    ) -> AsyncGenerator[Samples]:
        head = b""
        while len(head) < _HEAD_BYTES and (piece := await anext(source, None)) is not None:
            head += piece
        if not head:
            raise EmptyAudioError("The recording is empty.")

        async with self._slot():
            process = self._start(_arguments(head, sample_rate_hz, track))
            pump = asyncio.create_task(_pump(head, source, process))
            reporting = asyncio.create_task(_report(process))
            reader, decoded = MatroskaAudioReader(sample_rate_hz=sample_rate_hz, separate=separate), False
            try:
                data = None
                while data != b"":
                    data = await process.receive(_BLOCK_BYTES)
                    for samples in reader.read(data):
                        if samples.size:
                            decoded = True
                            yield samples
                if pump.done():
                    pump.result()  # What the source raised.
                warnings += _judge(await process.wait(), await reporting, track=track, decoded=decoded)
            finally:
                await _end(process, pump, reporting)

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None]:
        # A long recording keeps its process as long as the model reads it, so a place can be long in coming.
        try:
            async with asyncio.timeout(self._patience_s):
                await self._slots.acquire()
        except TimeoutError as error:
            message = "Too many recordings are being decoded."
            raise OverloadedError(message, retry_after_s=self._patience_s) from error
        try:
            yield
        finally:
            self._slots.release()

    def _start(self, arguments: list[str]) -> FfmpegProcess:
        try:
            return self._start_process([str(self._executable), *arguments])
        except OSError as error:
            _log.error("ffmpeg_not_started", executable=str(self._executable), reason=str(error))
            if (shortage := shortage_behind(error)) is not None:
                raise shortage from error
            raise DecoderUnavailableError("The audio decoder could not be started.") from error


# Where a track says nothing before its first packet, as in MPEG-TS, one that starts later than this is not found.
_ANALYZED_US = 60_000_000
# In these, ffmpeg counts time from the first track that it writes, so it must seem to write all.
_CLOCK_OF_ALL_TRACKS = "-map 0:a -map 0:v? -c copy -f null -"
_MPEG_SYNC, _MPEG_PACK = 0x47, b"\0\0\1\xba"
# MPEG's clocks start again at each cut, so ffmpeg takes a hole for one from so many seconds on; by default, from 10.
_LONGEST_MPEG_HOLE_S = 60


def _arguments(head: bytes, sample_rate_hz: int, track: int | None) -> list[str]:
    # Through a cache, ffmpeg asks for the size first and so reads everything before it decodes anything.
    indexed = head[4:8] in _INDEXED_ATOMS or head[:4] == b"caff"
    protocols, source = ("cache,pipe", "-read_ahead_limit -1 -i cache:pipe:0") if indexed else ("pipe", "-i pipe:0")
    # Of several tracks, ffmpeg takes the one that is marked as default; of several such, that of most channels.
    chosen = "" if track is None else f"-map 0:a:{track - 1}"
    return (
        # "level" tells faults from the list of tracks.
        f"-nostdin -hide_banner -nostats -loglevel level+info -max_alloc {1 << 28} -threads 1"
        f" -probesize {5 << 20} -analyzeduration {_ANALYZED_US} -dts_delta_threshold {_LONGEST_MPEG_HOLE_S}"
        f" -protocol_whitelist {protocols} -format_whitelist {_DEMUXERS} {source}"
        # All channels: ffmpeg's own mix leaves out those for low frequencies, and lets opposite ones cancel.
        # Matroska keeps their times. ffmpeg's own filters for these start again where the format of the audio changes.
        f" {chosen} -vn -sn -dn -ar {sample_rate_hz} -c:a pcm_f32le -f matroska pipe:1"
        f" {_CLOCK_OF_ALL_TRACKS if _is_mpeg(head) else ''}"
    ).split()


def _is_mpeg(head: bytes) -> bool:
    return head[0] == _MPEG_SYNC or head[4:5] == bytes([_MPEG_SYNC]) or head.startswith(_MPEG_PACK)


async def _pump(head: bytes, source: AsyncIterator[bytes], process: FfmpegProcess) -> None:
    try:
        piece: bytes | None = head
        while piece is not None:
            try:
                await process.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                break  # ffmpeg has seen enough; its exit status says why.
            piece = await anext(source, None)
    except Exception:
        # Not when cancelled: part of a piece may still be on its way, and the process is ended then, with its streams.
        await process.close_input()
        raise
    await process.close_input()


@dataclass(frozen=True, slots=True)
class _Report:
    """What ffmpeg said.

    Attributes:
        tracks: The audio tracks, each in a few words.
        others: How many tracks of other kinds there are.
        chosen: Index of the track that was decoded.
        complaints: The last errors, a line each.
    """

    tracks: tuple[str, ...]
    others: int
    chosen: int
    complaints: str


_TRACK = re.compile(r"\[info\] +Stream #0:(\d+)(?:\[\w+\])?(?:\((\w+)\))?: (\w+): (.*)")
_MAPPING = re.compile(r"\[info\] +Stream #0:(\d+) -> #0:0")


async def _report(process: FfmpegProcess) -> _Report:
    indices: list[int] = []
    tracks: list[str] = []
    others = chosen = 0
    of_input, complaints, rest = True, "", b""
    while True:
        piece = await process.receive_report(_LOG_BYTES)
        *lines, rest = (rest + (piece or b"\n")).split(b"\n")
        rest = rest[-_LOG_BYTES:]  # A line can be as long as what somebody wrote into the recording.
        for line in (line.decode("utf-8", "replace").rstrip() for line in lines):
            of_input = of_input and not line.startswith("[info] Output #")
            if mapping := _MAPPING.fullmatch(line.split(" (")[0]):
                chosen = int(mapping[1])
            elif of_input and len(tracks) < _MOST_TRACKS and (found := _TRACK.fullmatch(line)):
                if found[3] != "Audio":
                    others += 1
                    continue
                indices.append(int(found[1]))
                tracks.append(_described(found[2], found[4]))
            elif _is_complaint(line):
                complaints = f"{complaints}{line}\n"[-_LOG_BYTES:]
        if not piece:
            return _Report(tuple(tracks), others, indices.index(chosen) if chosen in indices else 0, complaints)


def _described(language: str | None, properties: str) -> str:
    """Language, codec and channels."""
    codec, *more = properties.split(", ")
    channels = more[1] if len(more) > 1 else ""
    known = language if language != "und" else None
    return ", ".join(part for part in (known, codec.split(" ")[0], channels) if part)


def _is_complaint(line: str) -> bool:
    is_fault = any(sign in line for sign in ("[error]", "[fatal]", "[panic]", *_CACHE_FAILURES))
    return is_fault and not any(noise in line for noise in _NOISE)


def _judge(returncode: int, report: _Report, *, track: int | None, decoded: bool) -> list[RecordingWarning]:
    """Log how ffmpeg ended; raise what that means, or give what is worth a warning."""
    complaints = report.complaints
    # 126 and 127: the loader or a wrapper could not run it. Negative: a signal; more than a byte: the same on Windows.
    broken = (
        not 0 <= returncode <= _LARGEST_STATUS
        or returncode in {126, 127}
        or any(failure in complaints for failure in _CACHE_FAILURES)
    )
    if "Cannot allocate memory" in complaints:
        # Half a recording must not pass for all of it.
        raise UndecodableAudioError("The recording takes more memory to decode than it may: it is malformed.")
    if "No space left on device" in complaints:
        _log.error("ffmpeg_cache_full", hint="ffmpeg keeps mp4 and caf files in /tmp", stderr=complaints)
        raise StorageFullError("The service has no disk space left for this recording.", retry_after_s=10.0)
    if broken:
        _log.warning("ffmpeg_died", returncode=returncode, stderr=complaints)
        raise DecoderUnavailableError("The audio decoder crashed.")
    if returncode or complaints:
        _log.debug("ffmpeg_complained", returncode=returncode, decoded=decoded, stderr=complaints)
    if decoded:
        warnings: list[RecordingWarning] = []
        if len(report.tracks) > 1:
            warnings.append(FurtherTracks(track=report.chosen + 1, tracks=report.tracks))
        if returncode or complaints:
            warnings.append(DamagedAudio())
        return warnings
    if track is not None and track > len(report.tracks) > 0:
        known = len(report.tracks)
        raise InvalidRequestError(f"track must be from 1 to {known}: so many audio tracks there are.", param="track")
    if report.others and not report.tracks:
        raise UndecodableAudioError("The recording has no audio track.")
    if returncode or complaints:
        raise UndecodableAudioError("The recording cannot be decoded: unknown format, or damaged.")
    raise EmptyAudioError("The recording contains no audio.")


async def _end(process: FfmpegProcess, pump: asyncio.Task[None], reporting: asyncio.Task[_Report]) -> None:
    """Leave nothing behind: no task, no process, not even a zombie."""
    pump.cancel()
    reporting.cancel()
    # A second cancellation must not stop this half-way.
    await asyncio.shield(asyncio.create_task(_reap(process, pump, reporting)))


async def _reap(process: FfmpegProcess, pump: asyncio.Task[None], reporting: asyncio.Task[_Report]) -> None:
    await asyncio.gather(pump, reporting, return_exceptions=True)
    await process.end()


def find_ffmpeg() -> Path:
    """The system's ffmpeg, or else the one that came with the `imageio-ffmpeg` wheel.

    Raises:
        DecoderUnavailableError: There is neither.
    """
    if on_path := shutil.which("ffmpeg"):
        return Path(on_path)
    # Not `get_ffmpeg_exe()`: it obeys an environment variable, and starts the programs it finds to test them.
    with suppress(ModuleNotFoundError):
        for entry in resources.files("imageio_ffmpeg.binaries").iterdir():
            if entry.name.startswith("ffmpeg-") and isinstance(entry, Path):
                return entry
    raise DecoderUnavailableError("ffmpeg was not found: install it, or the Python package imageio-ffmpeg.")
