"""The ``parakeet-service`` command: its flags are settings, and what it needs is made when it is needed."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..config.flags import add_flags
from ..config.logs import configure_logging
from ..config.settings import Settings
from ..domain.errors import FaultError
from ..entrypoints import cli
from ..entrypoints.cli.mcp import ServeMcp
from .mcp import serve_mcp_on_stdio

if TYPE_CHECKING:
    from ..entrypoints.cli.context import CommandContext


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command of ``parakeet-service`` and give its exit code."""
    return cli.main(arguments, configure=_configure, configure_mcp=_configure_mcp)


def _configure(parser: ArgumentParser) -> "Callable[[Namespace], CommandContext]":
    read = add_flags(parser)

    def make(parsed: Namespace) -> "CommandContext":
        settings = _read(read, parsed)
        # Imported here, for it takes a second and a half, which an assistant's first answer need not wait for.
        from .context import context_of  # noqa: PLC0415

        return context_of(settings)

    return make


def _configure_mcp(parser: ArgumentParser) -> Callable[[Namespace], ServeMcp]:
    read = add_flags(parser)

    def make(parsed: Namespace) -> ServeMcp:
        settings = _read(read, parsed)

        def serve(url: str | None, api_key: str | None) -> bool:
            try:
                asyncio.run(serve_mcp_on_stdio(settings, url=url, api_key=api_key))
            except FaultError as error:
                sys.stderr.write(f"{error.message}\n")
                return False
            return True

        return serve

    return make


def _read(read: Callable[[Namespace], Settings], parsed: Namespace) -> Settings:
    settings = read(parsed)
    configure_logging(
        level=settings.log_level, log_format=settings.log_format, names_process=settings.http_processes > 1
    )
    return settings
