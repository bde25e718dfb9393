"""How far a model is on its way to being loaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import structlog

_log = structlog.stdlib.get_logger(__name__)

Doing: TypeAlias = Literal["downloading", "building"]
_EVENTS = {"downloading": "downloading the model", "building": "building the graphs of the model"}
_LOG_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of loading that takes long.

    Attributes:
        doing: What is done.
        done_bytes: So much of the checkpoint has been downloaded, or built into graphs.
        total_bytes: Of so much; ``None`` if that is not known.
    """

    doing: Doing
    done_bytes: int = 0
    total_bytes: int | None = None


class Progress:
    """Written by the thread that loads a model, read by others; tells the log from time to time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin before it is known whether anything takes long.

        Args:
            clock: Gives seconds.
        """
        self._clock = clock
        self._stage: Stage | None = None
        self._logged_s = 0.0

    @property
    def stage(self) -> Stage | None:
        """What is being done now, if it takes long."""
        return self._stage

    def begin(self, doing: Doing, model_id: str, total_bytes: int | None) -> None:
        """So much is to come."""
        self._stage = Stage(doing, total_bytes=total_bytes)
        self._logged_s = self._clock()
        size = "of unknown size" if total_bytes is None else f"about {total_bytes / 1e9:.1f} GB"
        _log.info(_EVENTS[doing], model=model_id, size=size)

    def add(self, size_bytes: int) -> None:
        """So much more is done."""
        if self._stage is None:
            return
        self._stage = stage = replace(self._stage, done_bytes=self._stage.done_bytes + size_bytes)
        now_s = self._clock()
        if now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            percent = round(100 * stage.done_bytes / stage.total_bytes) if stage.total_bytes else None
            facts = {"done_bytes": stage.done_bytes, "total_bytes": stage.total_bytes, "percent": percent}
            _log.info(_EVENTS[stage.doing], **facts)

    def end(self) -> None:
        """All is done, or no more will come."""
        self._stage = None
