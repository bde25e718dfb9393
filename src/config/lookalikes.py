"""Environment variables that look like settings but are none: probably a misspelt setting, which has no effect."""

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .settings import Settings

_SIMILARITY = 0.8
"""API_KEY is 0.93 like API_KEYS; DB_PORT, as other programs have it, is 0.73 like PORT."""


class Lookalike(NamedTuple):
    """A name that was given, and the setting that was meant."""

    name: str
    meant: str

    def __str__(self) -> str:
        """In one sentence."""
        return f"{self.name} is not a setting; did you mean {self.meant}?"


def lookalikes(given: Mapping[str, str | None], *, others: Iterable[str] = ()) -> list[Lookalike]:
    """Those among the names that are given a value; `others` are names that somebody else reads."""
    ours = [name.upper() for name in Settings.model_fields]
    exempt = {*ours, *others}
    found: list[Lookalike] = []
    for name, value in given.items():
        upper = name.upper()
        if value and upper not in exempt and (meant := _meant(upper, ours)) is not None:
            found.append(Lookalike(name, meant))
    return found


def _meant(name: str, ours: list[str]) -> str | None:
    close = difflib.get_close_matches(name, ours, n=1, cutoff=_SIMILARITY)
    if close:
        return close[0]
    # Two letters in each other's place weigh much in a short name.
    return next((setting for setting in ours if sorted(setting) == sorted(name)), None)
