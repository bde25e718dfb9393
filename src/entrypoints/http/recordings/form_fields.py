"""What the forms of several routes have in common."""

from typing import Annotated, Literal

from fastapi import Form
from pydantic import BeforeValidator, Field

_UNSAID = frozenset({"", "null", "none", "undefined"})


def _read(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in _UNSAID else value


UNSAID = BeforeValidator(_read)
"""For a field that may be left out: a form has no null, so clients write an empty string, or the word for it.

Bounds of the value belong beside its type, inside the union with ``None``: here they would meet ``None``, too.
"""

Channels = Annotated[
    Literal["mix", "separate"],
    Form(
        description="`separate` transcribes each channel by itself, such as the two sides of a call, and puts `channel` "
        "on words and segments; up to 16"
    ),
]
Track = Annotated[
    Annotated[int, Field(ge=1)] | None,
    UNSAID,
    Form(description="audio track, counted from 1; by default the one that is marked as default"),
]
