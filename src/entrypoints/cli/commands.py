"""The commands but `mcp`: what each of them takes."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ...application.ports.speech_model import Decoding
from ...assets import DEMO_RECORDING
from ...domain.audio import Encoding
from ...domain.captions import DEFAULT_STYLE, CaptionStyle
from ...domain.errors import InvalidRequestError
from .bench import bench
from .context import Configure
from .demo import demo
from .doctor import doctor
from .exit_code import ExitCode
from .jobs import add_jobs
from .live_client import connected
from .stream import RawAudio, Speech, stream
from .transcribe import FORMATS, output_name, transcribe

_SERVICE = "http://127.0.0.1:8000"
_HERE = "ws://127.0.0.1:8000/ws"

_AddCommand: TypeAlias = Callable[..., argparse.ArgumentParser]


def _add_serve(add_command: _AddCommand, configure: Configure) -> None:
    parser = add_command("serve", help="run the service", usage="%(prog)s [SETTINGS]")
    context_of = configure(parser)

    def run(parsed: argparse.Namespace) -> ExitCode:
        return ExitCode.DONE if context_of(parsed).serve() else ExitCode.FAULT

    parser.set_defaults(run=run)


def _add_transcribe(add_command: _AddCommand, configure: Configure) -> None:
    parser = add_command(
        "transcribe",
        help="transcribe recordings on this machine, without a server",
        usage="%(prog)s FILE... [--format FORMAT] [--output-dir DIR] [--keywords LIST] [--track N] [CAPTIONS] [SETTINGS]",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a recording in any format; - reads standard input")
    parser.add_argument("--format", choices=FORMATS, default="text", help="output format (default: text)")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="write one file per recording into DIR")
    parser.add_argument(
        "--keywords", default="", metavar="LIST", help="words and phrases to favour, such as names, comma-separated"
    )
    parser.add_argument(
        "--track",
        type=int,
        metavar="N",
        help="audio track, counted from 1; by default the one that is marked as default",
    )
    _add_caption_options(parser)
    context_of = configure(parser)

    def run(parsed: argparse.Namespace) -> ExitCode:
        files: list[str] = parsed.files
        if parsed.track is not None and parsed.track < 1:
            parser.error("--track: counted from 1")
        try:
            captions = CaptionStyle(**{one.name: getattr(parsed, one.name) for one in fields(CaptionStyle)})
        except InvalidRequestError as error:
            parser.error(f"--{error.message}")
        directory: Path | None = parsed.output_dir
        if directory is None and len(files) > 1 and parsed.format in {"srt", "vtt"}:
            parser.error(f"several recordings with --format {parsed.format} need --output-dir")
        if directory is not None:
            if len({output_name(name, parsed.format) for name in files}) < len(files):
                parser.error("with --output-dir, the names of the recordings must differ")
            directory.mkdir(parents=True, exist_ok=True)
        try:
            decoding = Decoding(phrases=tuple(filter(None, map(str.strip, parsed.keywords.split(",")))))
        except InvalidRequestError as error:
            parser.error(f"--keywords: {error.message}")
        return asyncio.run(
            transcribe(
                context_of(parsed),
                files,
                style=parsed.format,
                output_dir=directory,
                decoding=decoding,
                captions=captions,
                track=parsed.track,
            )
        )

    parser.set_defaults(run=run)


def _add_caption_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("captions", "how srt and vtt are cut")
    for name, kind, unit, about in (
        ("max_line_width", int, "N", "characters per line"),
        ("max_line_count", int, "N", "lines per cue"),
        ("max_words_per_line", int, "N", "words per line"),
        ("max_cue_duration", float, "S", "longest time of a cue, in seconds"),
        ("min_cue_duration", float, "S", "shortest time of a cue, in seconds"),
        ("min_gap", float, "S", "least time between cues, in seconds"),
    ):
        default: float | None = getattr(DEFAULT_STYLE, name)
        told = "as many as fit" if default is None else f"{default:g}"
        # Whisper's command writes them with underscores.
        names = (f"--{name.replace('_', '-')}", f"--{name}")
        parser_help = f"{about} (default: {told})"
        options.add_argument(*names, dest=name, type=kind, default=default, metavar=unit, help=parser_help)
    options.add_argument(
        "--highlight-words",
        "--highlight_words",
        action="store_true",
        help="underline each word while it is spoken",
    )


def _add_stream(add_command: _AddCommand, configure: Configure) -> None:
    parser = add_command(
        "stream",
        help="stream a recording to a running service, and print the live text",
        usage="%(prog)s FILE|- [options]",
    )
    parser.add_argument("file", metavar="FILE", help="a recording in any format; - reads standard input, raw or WAV")
    parser.add_argument(
        "--url", type=_websocket, default=_HERE, help=f"WebSocket URL of the service (default: {_HERE})"
    )
    parser.add_argument(
        "--api-key", metavar="KEY", default=os.environ.get("API_KEY"), help="API key (default: $API_KEY)"
    )
    parser.add_argument("--rate", type=_at_least_one, metavar="HZ", help="sample rate of raw audio (default: 16000)")
    parser.add_argument(
        "--encoding", choices=tuple(Encoding), help="encoding of raw audio, which must be mono (default: pcm_s16le)"
    )
    parser.add_argument(
        "--fast", action="store_true", help="send as fast as the service accepts, instead of in real time"
    )
    parser.add_argument("--words", action="store_true", help="print one line per word, with its times")
    parser.add_argument("--json", action="store_true", help="print every message as JSON")
    # Its flags are the service's own, and would mean nothing to one that runs elsewhere.
    context_of = configure(argparse.ArgumentParser(parser.prog))

    def run(parsed: argparse.Namespace) -> ExitCode:
        if parsed.file != "-" and (parsed.rate or parsed.encoding):
            parser.error("--rate and --encoding are for raw audio on standard input")
        if parsed.file == "-" and sys.stdin.isatty():
            parser.error(
                f"standard input is a terminal; pipe audio into it: arecord -f S16_LE -r 16000 -t raw | {parser.prog} -"
            )
        raw = RawAudio()
        raw = RawAudio(Encoding(parsed.encoding or raw.encoding), parsed.rate or raw.sample_rate_hz)
        return asyncio.run(
            stream(
                context_of(argparse.Namespace()),
                Speech(parsed.file, raw, fast=parsed.fast),
                partial(connected, parsed.url, api_key=parsed.api_key),
                words=parsed.words,
                as_json=parsed.json,
            )
        )

    parser.set_defaults(run=run)


def _add_jobs(add_command: _AddCommand, _configure: Configure) -> None:
    parser = add_command("jobs", help="have a running service transcribe recordings in the background")
    add_jobs(parser, url=_SERVICE, api_key=os.environ.get("API_KEY"))


def _websocket(text: str) -> str:
    if not text.startswith(("ws://", "wss://")):
        raise argparse.ArgumentTypeError("must begin with ws:// or wss://")
    return text


def _add_demo(add_command: _AddCommand, _configure: Configure) -> None:
    parser = add_command(
        "demo", help="start the service with its embedded model, and transcribe a recording and a live stream"
    )

    def run(_parsed: argparse.Namespace) -> ExitCode:
        return asyncio.run(demo())

    parser.set_defaults(run=run)


def _add_bench(add_command: _AddCommand, configure: Configure) -> None:
    parser = add_command(
        "bench",
        help="measure the speed of the configured model on this machine",
        usage="%(prog)s [--file FILE] [--rounds N] [--json] [SETTINGS]",
    )
    parser.add_argument(
        "--file", type=Path, default=DEMO_RECORDING, help="a recording in any format (default: the bundled sample)"
    )
    parser.add_argument("--rounds", type=_at_least_one, default=10, metavar="N", help="number of runs (default: 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    context_of = configure(parser)

    def run(parsed: argparse.Namespace) -> ExitCode:
        return asyncio.run(bench(context_of(parsed), parsed.file, rounds=parsed.rounds, as_json=parsed.json))

    parser.set_defaults(run=run)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _add_doctor(add_command: _AddCommand, configure: Configure) -> None:
    parser = add_command("doctor", help="check the installation and the settings", usage="%(prog)s [SETTINGS]")
    context_of = configure(parser)

    def run(parsed: argparse.Namespace) -> ExitCode:
        return doctor(context_of(parsed))

    parser.set_defaults(run=run)


COMMANDS: tuple[Callable[[_AddCommand, Configure], None], ...] = (
    _add_serve,
    _add_transcribe,
    _add_stream,
    _add_jobs,
    _add_demo,
    _add_bench,
    _add_doctor,
)
"""Each adds one command."""
