from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from parakeet_service.application.ports.speech_model import Decoding
from parakeet_service.entrypoints import cli
from parakeet_service.entrypoints.cli.context import CommandContext
from tests.fakes import SearchingModel

from .conftest import MakeService, main


def configure(_: ArgumentParser) -> Callable[[Namespace], CommandContext]:
    def never(_: Namespace) -> CommandContext:
        raise AssertionError("wrong usage must be found before the service is made")

    return never


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("listen",),
        ("serve", "--colour"),
        ("transcribe",),
        ("transcribe", "a.wav", "--format", "docx"),
        ("transcribe", "a.wav", "b.wav", "--format", "srt"),
        ("bench", "--rounds", "0"),
        ("bench", "--rounds", "many"),
        ("transcribe", "a.wav", "--keywords", "x" * 101),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments, configure=configure)

    assert exit_.value.code == 2
    assert capsys.readouterr().out == ""


def test_recordings_whose_transcripts_would_share_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(("transcribe", "a/talk.mp3", "b/talk.mp3", "--output-dir", str(tmp_path)), configure=configure)

    assert exit_.value.code == 2


def test_bench_reads_what_it_is_given_as_often_as_it_is_told(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "speech.raw"
    recording.write_bytes(bytes(2 * 16000))

    code = main(("bench", "--file", str(recording), "--rounds", "2"), configure=lambda _: lambda _: make_service())

    assert code == 0
    assert "(2 runs, one at a time)" in capsys.readouterr().out


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(("--version",), configure=configure)

    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"parakeet-service {version('parakeet-service')}\n"


def test_interruption_exits_with_130(make_service: MakeService) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    assert main(("doctor",), configure=lambda _: lambda _: make_service(facts={"model": interrupted})) == 130


def test_a_directory_that_cannot_be_made_is_our_fault_in_one_line(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()

    code = main(
        ("transcribe", "a.wav", "--output-dir", str(tmp_path / "taken" / "below")),
        configure=lambda _: lambda _: make_service(),
    )

    assert code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_keywords_are_a_list_with_commas(
    make_service: MakeService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SearchingModel()
    recording = tmp_path / "speech.raw"
    recording.write_bytes(b"\x00\x20" * 32000)
    arguments = ("transcribe", str(recording), "--keywords", "Kowalski, New York,,")

    assert main(arguments, configure=lambda _: lambda _: make_service(model=model)) == 0

    assert model.asked == [Decoding(phrases=("Kowalski", "New York"))]
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), (None, None)),
        (("--url", "https://a.example/stt", "--api-key", "letmein"), ("https://a.example/stt", "letmein")),
        (("--url", "http://a.example"), ("http://a.example", "from the environment")),
    ],
)
@pytest.mark.parametrize(("went_well", "code"), [(True, 0), (False, 1)])
def test_mcp_is_told_which_service_is_to_transcribe(
    arguments: tuple[str, ...],
    told: tuple[str | None, str | None],
    went_well: bool,  # noqa: FBT001
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if told[1] == "from the environment":
        monkeypatch.setenv("API_KEY", told[1])
    else:
        monkeypatch.delenv("API_KEY", raising=False)
    calls: list[tuple[str | None, str | None]] = []

    def serve(url: str | None, api_key: str | None) -> bool:
        calls.append((url, api_key))
        return went_well

    assert cli.main(("mcp", *arguments), configure=configure, configure_mcp=lambda _: lambda _: serve) == code
    assert calls == [told]


def test_mcp_wants_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(("mcp", "--url", "localhost:8000"), configure=configure)
    assert exit_.value.code == 2
    assert "must begin with http:// or https://" in capsys.readouterr().err
