"""``parakeet-service doctor``: checks the installation, the settings and the port."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version

from ...domain.errors import FaultError
from .context import CommandContext
from .exit_code import ExitCode


class Health(Enum):
    """Whether a finding keeps the service from working; the value is its mark on the screen."""

    GOOD = " "
    NOTEWORTHY = "!"
    BROKEN = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    health: Health = Health.GOOD


def doctor(context: CommandContext) -> ExitCode:
    """Print one line per finding; 1 if one of them keeps the service from working."""
    broken = 0
    for finding in examine(context):
        broken += finding.health is Health.BROKEN
        print(f"{finding.health.value} {finding.name:<18} {finding.value}", flush=True)
    if broken:
        print(f"\nThe service cannot run. Problems marked {Health.BROKEN.value}: {broken}.", file=sys.stderr)
        return ExitCode.FAULT
    return ExitCode.DONE


def examine(context: CommandContext) -> Iterator[Finding]:
    """Look at the machine, at what it offers the service, at the settings and at the port, in that order."""
    yield Finding("parakeet-service", version("parakeet-service"))
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("platform", f"{platform.platform()}, {os.cpu_count()} cores")
    for name, fact in context.facts.items():
        try:
            yield Finding(name, fact())
        except FaultError as error:
            yield Finding(name, error.message, Health.BROKEN)
    if not context.changed_settings:
        yield Finding("settings", "all defaults")
    for name, value in context.changed_settings.items():
        yield Finding(name, value)
    yield _examine_address(context)


def _examine_address(context: CommandContext) -> Finding:
    try:
        return Finding("address", f"{context.free_address()} is free")
    except OSError as error:
        return Finding("address", f"{context.address}: {error.strerror or error}", Health.NOTEWORTHY)
