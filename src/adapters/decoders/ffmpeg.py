"""Compressed recordings and videos, decoded by an ffmpeg subprocess that can read its own input and nothing else."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import structlog

from ...domain.audio import Encoding, PcmReader, Samples
from ...domain.errors import DecoderUnavailableError, EmptyAudioError, OverloadedError, UndecodableAudioError

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
# What ffmpeg says of each pipe that it caches, good or bad, and what it says when the cache itself fails.
_NOISE = ("Inner protocol failed to seekback", "Last message repeated")
_CACHE_FAILURES = ("Failed to create tempfile", "write in cache failed")
# The environment may hold keys, which a decoder has no need of, and FFREPORT would make it write files.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class FfmpegDecoder:
    """Decodes what ffmpeg can, one process per recording, at most `max_processes` at once.

    Who finds no place within `patience_s` is turned away.

    A recording that is cut short gives the samples that are there; only one without a single readable sample is
    undecodable. Containers of the mp4 and caf kind may end with their index, so ffmpeg keeps what it has read of
    them in a file under ``/tmp`` that it unlinks before writing to it; all others are decoded as they arrive.
    """

    def __init__(self, executable: Path, *, max_processes: int = 16, patience_s: float = 10.0) -> None:
        self._executable = executable
        self._slots = asyncio.Semaphore(max_processes)
        self._patience_s = patience_s

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int
    ) -> AsyncGenerator[AsyncIterator[Samples]]:
        """Decode `source`; see the port."""
        async with aclosing(self._decode(aiter(source), sample_rate_hz)) as blocks:
            yield blocks

    async def _decode(self, source: AsyncIterator[bytes], sample_rate_hz: int) -> AsyncGenerator[Samples]:
        head = b""
        while len(head) < _HEAD_BYTES and (piece := await anext(source, None)) is not None:
            head += piece
        if not head:
            raise EmptyAudioError("The recording is empty.")

        async with self._slot():
            process = self._start(_arguments(head, sample_rate_hz))
            pump = asyncio.create_task(_pump(head, source, process.stdin))
            complaints = asyncio.create_task(_tail(process.stderr))
            reader, decoded = PcmReader(Encoding.PCM_F32LE), False
            try:
                while data := await _receive(process.stdout, _BLOCK_BYTES):
                    samples = reader.read(data)
                    if samples.size:
                        decoded = True
                        yield samples
                if pump.done():
                    pump.result()  # What the source raised.
                _judge(await process.wait(), await complaints, decoded=decoded)
            finally:
                await _end(process, pump, complaints)

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

    def _start(self, arguments: list[str]) -> "_Process":
        try:
            return _Process.start([str(self._executable), *arguments])
        except OSError as error:
            _log.warning("ffmpeg_not_started", executable=str(self._executable), reason=str(error))
            raise DecoderUnavailableError("The audio decoder could not be started.") from error


@dataclass(frozen=True, slots=True)
class _Process:
    """A running ffmpeg, and our ends of its standard streams.

    Not asyncio's own subprocess: uvloop starts those with ``fork``, before which OpenBLAS ends its threads, also in
    the middle of a multiplication that then waits for them for ever. `subprocess.Popen` uses ``vfork``, which runs no
    such handlers.

    Sockets that only we close, not pipes connected to the event loop: uvloop closes the descriptor of a pipe and then
    has its file object close the same number, or leaves that to the garbage collector if connecting is cancelled. By
    then the number can be another client's connection.
    """

    popen: subprocess.Popen[bytes]
    stdin: socket.socket
    stdout: socket.socket
    stderr: socket.socket

    @classmethod
    def start(cls, command: list[str]) -> "_Process":
        with ExitStack() as undo, ExitStack() as handed_over:
            ours, theirs = list[socket.socket](), list[socket.socket]()
            for _ in range(3):
                our_end, their_end = socket.socketpair()
                ours.append(undo.enter_context(our_end))
                theirs.append(handed_over.enter_context(their_end))
                our_end.setblocking(False)  # noqa: FBT003 - its only parameter
            stdin, stdout, stderr = theirs
            popen = subprocess.Popen(  # noqa: S603 - what is started here is ours to end
                command,
                stdin=stdin.fileno(),
                stdout=stdout.fileno(),
                stderr=stderr.fileno(),
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                # Control-C in a terminal is for the service, which finishes what runs.
                start_new_session=True,
            )
            undo.pop_all()
        return cls(popen, *ours)

    async def wait(self) -> int:
        """How it ended."""
        return await asyncio.to_thread(self.popen.wait)

    async def end(self) -> None:
        """Kill it if it still runs, and leave neither socket nor zombie; nobody may be reading or writing any more."""
        self.popen.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()
        await self.wait()


def _arguments(head: bytes, sample_rate_hz: int) -> list[str]:
    # Through a cache, ffmpeg asks for the size first and so reads everything before it decodes anything.
    indexed = head[4:8] in _INDEXED_ATOMS or head[:4] == b"caff"
    protocols, source = ("cache,pipe", "-read_ahead_limit -1 -i cache:pipe:0") if indexed else ("pipe", "-i pipe:0")
    return (
        f"-nostdin -hide_banner -loglevel error -max_alloc {1 << 28} -threads 1"
        f" -probesize {5 << 20} -analyzeduration {10_000_000}"
        f" -protocol_whitelist {protocols} -format_whitelist {_DEMUXERS} {source}"
        # Without rematrix_maxval, ffmpeg adds up the channels of float audio, beyond full scale, and does not average.
        f" -map 0:a:0 -vn -sn -dn -ac 1 -ar {sample_rate_hz} -rematrix_maxval 1 -f f32le pipe:1"
    ).split()


async def _receive(stream: socket.socket, limit_bytes: int) -> bytes:
    return await asyncio.get_running_loop().sock_recv(stream, limit_bytes)


async def _pump(head: bytes, source: AsyncIterator[bytes], sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        piece: bytes | None = head
        while piece is not None:
            try:
                await loop.sock_sendall(sink, piece)
            except (BrokenPipeError, ConnectionResetError):
                return  # ffmpeg has seen enough; its exit status says why.
            piece = await anext(source, None)
    finally:
        sink.close()


async def _tail(stream: socket.socket) -> str:
    tail = b""
    while piece := await _receive(stream, _LOG_BYTES):
        tail = (tail + piece)[-_LOG_BYTES:]
    lines = tail.decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if not any(noise in line for noise in _NOISE))


def _judge(returncode: int, complaints: str, *, decoded: bool) -> None:
    """Log how ffmpeg ended and raise what that means."""
    # 126 and 127: the loader or a wrapper could not run it. Negative: a signal.
    broken = returncode < 0 or returncode in {126, 127} or any(failure in complaints for failure in _CACHE_FAILURES)
    if broken:
        _log.warning("ffmpeg_died", returncode=returncode, stderr=complaints)
        raise DecoderUnavailableError("The audio decoder crashed.")
    if returncode or complaints:
        _log.debug("ffmpeg_complained", returncode=returncode, decoded=decoded, stderr=complaints)
    if decoded:
        return
    if returncode or complaints:
        raise UndecodableAudioError("The recording cannot be decoded: unknown format, or damaged.")
    raise EmptyAudioError("The recording contains no audio.")


async def _end(process: _Process, pump: asyncio.Task[None], complaints: asyncio.Task[str]) -> None:
    """Leave nothing behind: no task, no process, not even a zombie."""
    pump.cancel()
    complaints.cancel()
    # A second cancellation must not stop this half-way.
    await asyncio.shield(asyncio.create_task(_reap(process, pump, complaints)))


async def _reap(process: _Process, pump: asyncio.Task[None], complaints: asyncio.Task[str]) -> None:
    await asyncio.gather(pump, complaints, return_exceptions=True)
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
