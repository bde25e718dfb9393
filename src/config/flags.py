"""Settings as they are given: from the environment, a ``.env`` file, and command-line flags, which win.

A setting that cannot be used ends the program, with one line that names it and the exit code of a wrong flag.
"""

import argparse
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource

from .settings import Settings

_METAVARS = MappingProxyType({"str": "TEXT", "int": "N", "float": "N"})


def load_settings() -> Settings:
    """The settings of the environment."""
    return _usable(Settings, "parakeet-service")


def add_flags(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], Settings]:
    """Give `parser` a flag for each setting, and give back what makes settings of its result."""
    source = CliSettingsSource[argparse.ArgumentParser](
        Settings,
        root_parser=parser,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        add_argument_method=_add_argument,
    )

    def read(parsed: argparse.Namespace) -> Settings:
        return _usable(lambda: CliApp.run(Settings, cli_args=parsed, cli_settings_source=source), parser.prog)

    return read


def _usable(make: Callable[[], Settings], program: str) -> Settings:
    try:
        return make()
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_context=False)
        line = "; ".join(_one_line(c["loc"], c["msg"], c["input"]) for c in complaints)
        sys.stderr.write(f"{program}: {line}\n")
        sys.exit(2)


def _one_line(location: tuple[int | str, ...], message: str, value: object) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0]).upper()
    return f"{name}: {message}" if name == "API_KEYS" else f"{name}: {message}, not {value!r}"


def _add_argument(parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    # Python's type names mean little to someone who reads --help.
    metavar = str(options.get("metavar", ""))
    if metavar.startswith("tuple"):
        options["metavar"] = "A,B"
    elif metavar in _METAVARS:
        options["metavar"] = _METAVARS[metavar]
    parser.add_argument(*names, **options)
