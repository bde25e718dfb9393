import math
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
from structlog.testing import capture_logs

from parakeet_service.application.transcribe_file import FileLimits, TranscribeFile
from parakeet_service.entrypoints import cli
from parakeet_service.entrypoints.cli.context import CommandContext, Configure
from parakeet_service.entrypoints.cli.mcp import ServeMcp
from tests.fakes import FakeDecoder
from tests.scripted_model import ScriptedModel

MakeService: TypeAlias = Callable[..., CommandContext]


def transcriber_of(model: ScriptedModel) -> Callable[[], AbstractAsyncContextManager[TranscribeFile]]:
    @asynccontextmanager
    async def open_transcriber() -> AsyncGenerator[TranscribeFile]:
        await model.start()
        limits = FileLimits(
            longest_unchunked_s=30, longest_s=60, window_s=30, overlap_s=1, timeout_s=math.inf, windows_ahead=1
        )
        yield TranscribeFile(model, FakeDecoder(), limits)

    return open_transcriber


def never() -> bool:
    raise AssertionError("only `serve` serves")


def no_mcp(_: ArgumentParser) -> Callable[[Namespace], ServeMcp]:
    def make(_: Namespace) -> ServeMcp:
        raise AssertionError("only `mcp` serves assistants")

    return make


def main(arguments: Sequence[str], *, configure: Configure) -> int:
    """Run a command that is not `mcp`."""
    return cli.main(arguments, configure=configure, configure_mcp=no_mcp)


@pytest.fixture(autouse=True)
def quiet_log() -> Generator[None]:
    """Unconfigured, structlog writes to standard output, which is looked at here."""
    with capture_logs():
        yield


@pytest.fixture
def make_service() -> MakeService:
    """Makes a service whose model says "one two three ..." at one word a second."""
    numbers = ScriptedModel(script="One two three.", words_per_s=1)
    plain = CommandContext(
        address="127.0.0.1, port 0",
        free_address=lambda: "http://127.0.0.1:1",
        changed_settings={},
        facts={},
        serve=never,
        audio_decoder=FakeDecoder,
        open_transcriber=transcriber_of(numbers),
    )

    def make(*, model: ScriptedModel | None = None, **changes: Any) -> CommandContext:
        if model is not None:
            changes["open_transcriber"] = transcriber_of(model)
        return replace(plain, **changes)

    return make
