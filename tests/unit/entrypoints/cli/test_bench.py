import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.application.transcribe_file import TranscribeFile
from parakeet_service.domain.errors import InferenceError, ModelLoadError
from parakeet_service.entrypoints.cli.bench import bench
from parakeet_service.entrypoints.cli.exit_code import ExitCode
from tests.fakes import NOT_AUDIO, FailingModel

from .conftest import MakeService


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Two seconds that are not silent, as the fake decoder reads them."""
    path = tmp_path / "speech.raw"
    path.write_bytes(np.full(2 * 16000, 8000, "<i2").tobytes())
    return path


async def test_machine_latency_throughput_and_memory_are_shown(
    make_service: MakeService, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = await bench(make_service(), speech, rounds=3, as_json=False)

    assert code == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    names = [line[:18].strip() for line in lines]
    assert names == [
        *("model", "device", "precision", "BLAS", "loaded in"),
        *("2.0 s of audio", "1 in parallel", "4 in parallel", "16 in parallel", "resident memory"),
    ]
    assert "(3 runs, one at a time)" in lines[5]
    assert lines[8].endswith(" times real time")


async def test_json_is_one_object_and_the_figures_fit_each_other(
    make_service: MakeService, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await bench(make_service(), speech, rounds=3, as_json=True)

    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["audio_s"] == 2.0
    assert found["rounds"] == 3
    assert 0 < found["latency_median_s"] <= found["latency_worst_s"]
    assert list(found["at_once"]) == ["1", "4", "16"]
    for number, reading in found["at_once"].items():
        assert reading["seconds"] / reading["real_time_factor"] == pytest.approx(2.0 * int(number), rel=0.05)
    assert found["most_resident_mb"] > 1
    assert "most_resident_model_mb" not in found


async def test_the_memory_of_a_model_in_a_process_of_its_own_is_shown_too(
    make_service: MakeService, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(changed_settings={"ISOLATION": "process"})

    assert await bench(service, speech, rounds=1, as_json=True) == ExitCode.DONE
    assert "most_resident_model_mb" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("content", [NOT_AUDIO, b"", None], ids=["no audio", "empty", "missing"])
async def test_a_recording_that_cannot_be_read_is_said_in_one_line(
    make_service: MakeService, tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp3"
    if content is not None:
        bad.write_bytes(content)

    code = await bench(make_service(), bad, rounds=1, as_json=True)

    shown = capsys.readouterr()
    assert code == ExitCode.UNREADABLE
    assert shown.out == ""
    assert shown.err.startswith(f"{bad}: ")
    assert shown.err.count("\n") == 1


async def test_a_model_that_fails_is_our_fault(
    make_service: MakeService, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = make_service(model=FailingModel(InferenceError("The model failed.")))

    assert await bench(service, speech, rounds=1, as_json=True) == ExitCode.FAULT
    assert capsys.readouterr().err == "The model failed.\n"


async def test_a_model_that_cannot_be_loaded_ends_it_with_one_line(
    make_service: MakeService, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def open_transcriber() -> AsyncGenerator[TranscribeFile]:
        raise ModelLoadError("MODEL_ID: it is nowhere.")
        yield

    code = await bench(make_service(open_transcriber=open_transcriber), speech, rounds=1, as_json=False)

    assert code == ExitCode.FAULT
    assert capsys.readouterr().err == "MODEL_ID: it is nowhere.\n"
