"""``parakeet-service transcribe``: recordings in, text or captions out, without a server."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ...application.ports.speech_model import GREEDY, Decoding
from ...application.transcribe_file import Progress as DecodeResult
from ...application.transcribe_file import TranscribeFile
from ...domain.captions import DEFAULT_STYLE, CaptionStyle, to_srt, to_vtt
from ...domain.errors import CallerError, ServiceError
from ...domain.transcript import Segment, Transcript, Word
from .context import CommandContext
from .exit_code import ExitCode

_BLOCK_BYTES = 1 << 18


def _to_json(name: str, transcript: Transcript) -> str:
    def timed(part: Word | Segment) -> dict[str, object]:
        return {"text": part.text, "start": round(part.start_s, 3), "end": round(part.end_s, 3)}

    body: dict[str, object] = {
        "file": name,
        "text": transcript.text,
        "duration": round(transcript.duration_s, 3),
        "timestamps": {
            "words": [timed(word) for word in transcript.words],
            "segments": [timed(segment) for segment in transcript.segments],
        },
    }
    if transcript.warnings:
        body["warnings"] = [warning.message for warning in transcript.warnings]
    return json.dumps(body, ensure_ascii=False) + "\n"


FORMATS: MappingProxyType[str, Callable[[str, Transcript, CaptionStyle], str]] = MappingProxyType(
    {
        "text": lambda _, transcript, __: transcript.text + "\n",
        "json": lambda name, transcript, _: _to_json(name, transcript),
        "srt": lambda _, transcript, captions: to_srt(transcript, captions),
        "vtt": lambda _, transcript, captions: to_vtt(transcript, captions),
    }
)
"""How a recording's name and transcript may be written; a JSON object takes one line."""


async def transcribe(
    context: CommandContext,
    files: Sequence[str],
    *,
    style: str,
    output_dir: Path | None,
    decoding: Decoding = GREEDY,
    captions: CaptionStyle = DEFAULT_STYLE,
    track: int | None = None,
) -> ExitCode:
    """Transcribe one recording after the other; one that cannot be read does not keep the others from being done."""
    codes = {ExitCode.DONE}
    are_many = len(files) > 1
    # Before the model is loaded, or even downloaded.
    unreadable = [name for name in files if not _is_readable(name)]
    if unreadable:
        codes.add(ExitCode.UNREADABLE)
        files = [name for name in files if name not in unreadable]
        if not files:
            return ExitCode.UNREADABLE
    try:
        async with context.open_transcriber() as transcribe_file:
            for name in files:
                try:
                    transcript = await _transcribe_one(transcribe_file, name, decoding, track)
                except OSError as error:
                    codes.add(_complain(f"{name}: {error.strerror or error}", ExitCode.UNREADABLE))
                except CallerError as error:
                    codes.add(_complain(f"{name}: {error.message}", ExitCode.UNREADABLE))
                except ServiceError as error:
                    codes.add(_complain(f"{name}: {error.message}", ExitCode.FAULT))
                else:
                    for warning in transcript.warnings:
                        print(f"{name}: {warning.message}", file=sys.stderr)
                    text = FORMATS[style](name, transcript, captions)
                    if output_dir is not None:
                        (output_dir / output_name(name, style)).write_text(text, encoding="utf-8")
                    else:
                        prefix = f"{name}: " if style == "text" and are_many else ""
                        print(prefix + text, end="", flush=True)
    except ServiceError as error:
        return _complain(error.message, ExitCode.FAULT)
    return next(code for code in (ExitCode.FAULT, ExitCode.UNREADABLE, ExitCode.DONE) if code in codes)


def _is_readable(name: str) -> bool:
    if name == "-":
        return True
    try:
        with Path(name).open("rb"):
            return True
    except OSError as error:
        _complain(f"{name}: {error.strerror or error}", ExitCode.UNREADABLE)
        return False


def output_name(recording: str, style: str) -> str:
    """The file that takes a recording's transcript."""
    stem = "stdin" if recording == "-" else Path(recording).stem
    return f"{stem}.{'txt' if style == 'text' else style}"


async def _transcribe_one(
    transcribe_file: TranscribeFile, name: str, decoding: Decoding, track: int | None
) -> Transcript:
    with _progress_bar() as bar:
        task = bar.add_task(name, total=_size_bytes(name), heard="")

        def show(reading: DecodeResult) -> None:
            minutes, seconds = divmod(int(reading.done_s), 60)
            bar.update(task, heard=f"{minutes}:{seconds:02} transcribed")

        async with aclosing(_blocks(name, bar, task)) as source:
            return await transcribe_file(source, decoding=decoding, track=track, on_progress=show)


def _size_bytes(name: str) -> int | None:
    path = Path(name)
    return path.stat().st_size if path.is_file() else None


async def _blocks(name: str, bar: Progress, task: TaskID) -> AsyncGenerator[bytes]:
    with sys.stdin.buffer if name == "-" else await asyncio.to_thread(open, name, "rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block
            bar.advance(task, len(block))


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[heard]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # rich would send standard output to standard error while the bar is shown.
        redirect_stdout=False,
        disable=not console.is_terminal,
    )


def _complain(line: str, code: ExitCode) -> ExitCode:
    print(line, file=sys.stderr)
    return code
