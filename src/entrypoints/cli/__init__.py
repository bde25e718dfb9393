"""The ``parakeet-service`` command: results on standard output, everything else on standard error."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, cast

from .exit_code import ExitCode
from .mcp import ConfigureMcp, add_mcp

if TYPE_CHECKING:
    from .context import Configure

__all__ = ["main"]


def main(arguments: Sequence[str], *, configure: "Configure", configure_mcp: ConfigureMcp) -> int:
    """Run one command and give its exit code; wrong usage ends the program with code 2."""
    if sys.platform == "win32":
        # Into files and pipes it would write a code page that lacks most languages.
        for stream in (sys.stdout, sys.stderr):
            cast("TextIOWrapper", stream).reconfigure(encoding="utf-8")
    parser = argparse.ArgumentParser(prog="parakeet-service", description="Self-hosted English speech-to-text.")
    parser.add_argument("--version", action="version", version=f"parakeet-service {version('parakeet-service')}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    if list(arguments[:1]) != ["mcp"]:
        # An assistant that starts `mcp` waits for its first answer, and need not wait for the imports of the others.
        from .commands import COMMANDS  # noqa: PLC0415

        for add in COMMANDS:
            add(subparsers.add_parser, configure)
    add_mcp(subparsers.add_parser, configure_mcp)
    parsed = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], ExitCode] = parsed.run
    try:
        return run(parsed)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; without this, Python complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAULT
    except OSError as error:
        print(f"parakeet-service: {error}", file=sys.stderr)
        return ExitCode.FAULT
