"""Prints the settings as a table, or with ``--write`` puts it into ``docs/settings.md``."""

import sys
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from parakeet_service.config.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN = "<!-- settings: `make format` writes this table -->"
END = "<!-- /settings -->"
_BOUNDS = MappingProxyType({"ge": "at least", "gt": "above", "le": "at most", "lt": "below"})


def table() -> str:
    """The settings, one row each, in the order of `Settings`."""
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {_meaning(field)} |" for name, field in Settings.model_fields.items()
    ]
    return "\n".join(("| Variable | Default | Meaning |", "| --- | --- | --- |", *rows))


def table_in(document: str) -> str:
    """What stands between the markers in `document`."""
    return document.partition(BEGIN)[2].partition(END)[0].strip()


def with_table(document: str) -> str:
    """`document` with the current table between its markers."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has lost its markers {BEGIN} and {END}")
    return f"{head}{begin}\n\n{table()}\n\n{end}{tail}"


def _default(field: FieldInfo) -> str:
    default: object = field.default
    if default is None:
        return "not set"
    if default in ((), ""):
        return "empty"
    if isinstance(default, tuple):
        default = ",".join(str(one) for one in cast("tuple[object, ...]", default))
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _meaning(field: FieldInfo) -> str:
    limits = [
        f"{words} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, words in _BOUNDS.items()
        if hasattr(bound, name)
    ]
    limits += [
        ", ".join(f"`{choice}`" for choice in get_args(kind))
        for kind in (field.annotation, *get_args(field.annotation))
        if get_origin(kind) is Literal
    ]
    return f"{field.description} ({', '.join(limits)})" if limits else str(field.description)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())
