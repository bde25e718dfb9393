"""What the documents say about settings, commands, messages and each other is so."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import pytest

from parakeet_service.domain.audio import Encoding
from parakeet_service.domain.live import Cleared, EndCause, Final, Partial, SpeechStarted, SpeechStopped
from parakeet_service.entrypoints.cli import main
from parakeet_service.entrypoints.cli.context import CommandContext
from parakeet_service.entrypoints.cli.mcp import ServeMcp
from parakeet_service.entrypoints.http.guards.error_responses import ERROR_RESPONSES
from parakeet_service.entrypoints.http.live.schemas import Command, ConfigCommand, event_message
from scripts.settings_table import PAGE, table, table_in

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DECISIONS = ROOT / "docs" / "adr"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
DOCUMENTS = [*PAGES, ROOT / ".ci" / "run"]


def said(pattern: str) -> set[str]:
    """What `pattern` finds where commands stand: at the start of a line, after a prompt, or in backticks."""
    texts = (document.read_text(encoding="utf-8") for document in DOCUMENTS)
    return {found for text in texts for found in re.findall(rf"(?m)(?:^|^\$ |`|exec ){pattern}", text)}


def test_the_settings_are_listed_as_they_are() -> None:
    assert table_in(PAGE.read_text(encoding="utf-8")) == table(), "run `make format`"


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z]+):.*## ", makefile))

    assert {"setup", "demo", "serve", "test", "check", "bench", "image"} <= targets
    assert said(r"make ([a-z]+)") <= targets


def test_every_command_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    def configure(_: ArgumentParser) -> Callable[[Namespace], CommandContext]:
        def never(_: Namespace) -> CommandContext:
            raise AssertionError("--help needs no service")

        return never

    def configure_mcp(_: ArgumentParser) -> Callable[[Namespace], ServeMcp]:
        def never(_: Namespace) -> ServeMcp:
            raise AssertionError("--help serves no assistant")

        return never

    for command in said(r"parakeet-service ([a-z]+)"):
        with pytest.raises(SystemExit) as exit_:
            main((command, "--help"), configure=configure, configure_mcp=configure_mcp)
        assert exit_.value.code == 0, capsys.readouterr().err


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_link_to_a_file_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in (*PAGES, *DECISIONS.glob("*.md"))
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not link.startswith(("http://", "https://", "NNNN")) and not (page.parent / link).exists()
    ]

    assert broken == []


def test_every_decision_is_in_the_index_and_in_order() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^\| \[(\d{4})\]\((\1-[^)]+\.md)\) \|", index)

    assert [name for _, name in listed] == sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))


def rows_of(page: str, heading: str) -> list[str]:
    """The first cells of the tables below `heading`, up to the next one."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"(?m)^## ", text.partition(f"\n## {heading}\n")[2])[0]
    return [cell for cell in re.findall(r"(?m)^\| `([^`]+)` \|", section) if cell != "type"]


def names(commands: Iterable[type]) -> set[str]:
    """The `type` of each command."""
    return {get_args(command.model_fields["type"].annotation)[0] for command in commands}  # type: ignore[attr-defined]


def test_every_live_command_and_field_is_documented() -> None:
    fields = set(ConfigCommand.model_fields) - {"type"}

    assert set(rows_of("live.md", "What you send")) == names(get_args(Command)) | fields


def test_every_live_message_is_documented() -> None:
    events = (SpeechStarted(0), Partial((), (), 0), SpeechStopped(0), Final((), 0, EndCause.ASKED), Cleared())
    messages = {str(event_message(event, words=True)["type"]) for event in events}

    assert set(rows_of("live.md", "What you get")) == messages | {"ready", "error"}


def test_live_close_codes_are_those_of_the_errors_beside_them() -> None:
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    documented = re.findall(r"(?m)^\| (1\d{3}) \| `(\w+)` \|", page)

    assert documented
    assert [(code, int(close)) for close, code in documented] == [
        (code, ERROR_RESPONSES[code].close_code) for _, code in documented
    ]


def test_every_live_encoding_is_documented() -> None:
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")

    assert [encoding for encoding in Encoding if f"`{encoding.value}`" not in page] == []
