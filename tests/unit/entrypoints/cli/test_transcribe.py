import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.application.ports.speech_model import Decoding
from parakeet_service.application.transcribe_file import TranscribeFile
from parakeet_service.domain.errors import InferenceError, ModelLoadError
from parakeet_service.entrypoints.cli.exit_code import ExitCode
from parakeet_service.entrypoints.cli.transcribe import transcribe
from tests.fakes import KILLS_DECODER, NOT_AUDIO, FailingModel, SearchingModel

from .conftest import MakeService


@pytest.fixture
def speech(tmp_path: Path) -> str:
    """Two seconds that are not silent, as the fake decoder reads them."""
    path = tmp_path / "speech.raw"
    path.write_bytes(np.full(2 * 16000, 8000, "<i2").tobytes())
    return str(path)


async def test_text_goes_to_standard_output_and_nothing_else_does(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await transcribe(make_service(), [speech], style="text", output_dir=None)

    assert code == ExitCode.DONE
    assert capsys.readouterr().out == "One two\n"


async def test_several_texts_are_told_apart_by_name(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await transcribe(make_service(), [speech, speech], style="text", output_dir=None)

    assert capsys.readouterr().out == f"{speech}: One two\n" * 2


async def test_json_is_one_object_a_line_with_times(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await transcribe(make_service(), [speech, speech], style="json", output_dir=None)

    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert first["file"] == speech
    assert first["text"] == "One two"
    assert first["duration"] == 2.0
    assert first["timestamps"]["words"][1] == {"text": "two", "start": 1.0, "end": 1.75}
    assert first["timestamps"]["segments"] == [{"text": "One two", "start": 0.0, "end": 1.75}]


@pytest.mark.parametrize(("style", "name", "begin"), [("srt", "speech.srt", "1\n"), ("vtt", "speech.vtt", "WEBVTT\n")])
async def test_captions_go_into_a_directory(
    make_service: MakeService, speech: str, tmp_path: Path, style: str, name: str, begin: str
) -> None:
    await transcribe(make_service(), [speech], style=style, output_dir=tmp_path)

    captions = (tmp_path / name).read_text("utf-8")
    assert captions.startswith(begin)
    assert "One two" in captions


async def test_text_in_a_directory_is_a_txt_file(make_service: MakeService, speech: str, tmp_path: Path) -> None:
    await transcribe(make_service(), [speech], style="text", output_dir=tmp_path)

    assert (tmp_path / "speech.txt").read_text("utf-8") == "One two\n"


@pytest.mark.parametrize("content", [NOT_AUDIO, b"", None], ids=["no audio", "empty", "missing"])
async def test_a_recording_that_cannot_be_read_does_not_stop_the_others(
    make_service: MakeService, speech: str, tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp3"
    if content is not None:
        bad.write_bytes(content)

    code = await transcribe(make_service(), [str(bad), speech], style="text", output_dir=None)

    shown = capsys.readouterr()
    assert code == ExitCode.UNREADABLE
    assert shown.out == f"{speech}: One two\n"
    assert shown.err.startswith(f"{bad}: ")
    assert shown.err.count("\n") == 1


async def test_no_model_is_loaded_for_files_that_are_not_there(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(open_transcriber=None)

    code = await transcribe(service, [str(tmp_path / "nope.mp3"), str(tmp_path)], style="text", output_dir=None)

    assert code == ExitCode.UNREADABLE
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'nope.mp3'}: No such file or directory",
        f"{tmp_path}: Is a directory",
    ]


async def test_our_faults_weigh_more_than_unreadable_recordings(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fatal = tmp_path / "fatal"
    fatal.write_bytes(KILLS_DECODER)

    code = await transcribe(make_service(), [str(fatal), "missing"], style="text", output_dir=None)

    assert code == ExitCode.FAULT
    assert capsys.readouterr().err.count("\n") == 2


async def test_a_model_that_fails_is_our_fault(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(model=FailingModel(InferenceError("The model failed.")))

    assert await transcribe(service, [speech], style="text", output_dir=None) == ExitCode.FAULT
    assert capsys.readouterr().err == f"{speech}: The model failed.\n"


async def test_a_model_that_cannot_be_loaded_ends_it_with_one_line(
    make_service: MakeService, speech: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def open_transcriber() -> AsyncGenerator[TranscribeFile]:
        raise ModelLoadError("MODEL_ID: it is nowhere.")
        yield

    code = await transcribe(make_service(open_transcriber=open_transcriber), [speech], style="text", output_dir=None)

    assert code == ExitCode.FAULT
    assert capsys.readouterr().err == "MODEL_ID: it is nowhere.\n"


async def test_keywords_reach_the_model(make_service: MakeService, speech: str) -> None:
    model = SearchingModel()
    decoding = Decoding(phrases=("Kowalski", "New York"))

    await transcribe(make_service(model=model), [speech], style="text", output_dir=None, decoding=decoding)

    assert model.asked == [decoding]
