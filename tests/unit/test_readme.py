"""What the documents say about settings and commands is so."""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from parakeet_service.entrypoints.cli import main
from parakeet_service.entrypoints.cli.context import CommandContext
from scripts.settings_table import README, table, table_in

ROOT = Path(__file__).parents[2]
DOCUMENTS = [README, *(ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", ".ci/run"))]


def said(pattern: str) -> set[str]:
    """What `pattern` finds where commands stand: at the start of a line, after a prompt, or in backticks."""
    texts = (document.read_text(encoding="utf-8") for document in DOCUMENTS)
    return {found for text in texts for found in re.findall(rf"(?m)(?:^|^\$ |`|exec ){pattern}", text)}


def test_readme_has_the_settings_as_they_are() -> None:
    assert table_in(README.read_text(encoding="utf-8")) == table(), "run `make format`"


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

    for command in said(r"parakeet-service ([a-z]+)"):
        with pytest.raises(SystemExit) as exit_:
            main((command, "--help"), configure=configure)
        assert exit_.value.code == 0, capsys.readouterr().err
