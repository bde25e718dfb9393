"""``parakeet-service mcp``; its imports are few, for an assistant waits for the first answer."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TypeAlias

from .exit_code import ExitCode

ServeMcp: TypeAlias = Callable[[str | None, str | None], bool]
"""Serves an assistant on the standard streams until it leaves, and gives whether all went well.

It takes the URL of the service that transcribes, ``None`` for one in this process, and that one's API key.
"""
ConfigureMcp: TypeAlias = Callable[[ArgumentParser], Callable[[Namespace], ServeMcp]]
"""Gives the command's parser the flags of the settings, and gives back what makes the server of its result."""


def add_mcp(add_command: Callable[..., ArgumentParser], configure: ConfigureMcp) -> None:
    """Add the command."""
    parser = add_command(
        "mcp",
        help="serve an assistant on standard input and output, by MCP",
        usage="%(prog)s [--url URL [--api-key KEY]] [SETTINGS]",
    )
    parser.add_argument(
        "--url",
        type=_url,
        metavar="URL",
        help="let the service that runs there transcribe, and load no model (default: load it here)",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        default=os.environ.get("API_KEY"),
        help="API key of that service (default: $API_KEY)",
    )
    serve_of = configure(parser)

    def run(parsed: Namespace) -> ExitCode:
        return ExitCode.DONE if serve_of(parsed)(parsed.url, parsed.api_key) else ExitCode.FAULT

    parser.set_defaults(run=run)


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ArgumentTypeError("must begin with http:// or https://")
    return text
