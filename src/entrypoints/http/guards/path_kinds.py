"""What the guards must know of a path; the application says it, for the guards know no route."""

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias


class PathKind(Enum):
    """How a path is guarded and logged."""

    PROBE = auto()
    """Answered at any time, to anyone; logged at debug level."""
    PAGE = auto()
    """Needs no key and is not counted; logged at debug level."""
    DOCUMENTATION = auto()
    """Needs no key and is not counted."""
    METRICS = auto()
    """Needs a key where there are keys, and is not counted; logged at debug level."""
    API = auto()
    """Needs a key where there are keys, and is counted."""


KindOf: TypeAlias = Callable[[str], PathKind]
