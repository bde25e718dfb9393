"""What the detector is given beside a signal that is too soft, or lost in what lies below speech."""

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_LOWEST_SHAPES, _REMOVED_SHAPES = 8, 12
"""Polynomials that stand for what lies below speech. In a window of 36 ms, the first ones are all that is below 55 Hz:
they tell whether it drowns the rest. All of them take it off by more than 40 dB."""
_BELOW_SPEECH = 0.75
"""Where these are more of a window's power than this, speech may hide behind them. Of a deep voice they are less."""
_SOFT_DB, _CLEAR_DB = -60.0, -40.0
"""Of full scale, mean power of a frame. Speech that is louder than the first is found as it is; what is softer is made
as loud as the second."""
_MOST_GAIN_DB = 60.0
_HOLD_S = 1.0
_FADES_DB_S = 20.0
"""How fast a loud sound is forgotten."""

_NOTHING = 1e-12
"""Power, of -120 dB: what is softer is no sound, but the rounding of one."""

Windows: TypeAlias = NDArray[np.float32]
"""Frames with their context, shape ``(n, window)``, float32."""


@dataclass(frozen=True, slots=True, eq=False)
class ClearedRun:
    """Neighbouring frames that are scored once more, without what hides speech in them.

    Attributes:
        begin: Its first frame, counted in the windows that were given.
        windows: What to score.
        needed: Which of them needed it, shape ``(n,)``; the others are there for the detector to hear on.
        continues: Whether it goes on where the last run of the windows before ended.
    """

    begin: int
    windows: Windows
    needed: NDArray[np.bool_]
    continues: bool


@dataclass(slots=True, eq=False)
class Conditioner:
    """Follows one signal: takes off an offset, rumble or hum that drowns it, and makes it louder where it is soft.

    Attributes:
        frame_s: How long a frame is, in seconds.
        level_db: Of the loudest sound so far, as far as it is not forgotten.
        open: Whether the last frame was in a run.
        since: Frames since one needed it; many, if none did.
    """

    frame_s: float
    level_db: float = -np.inf
    open: bool = False
    since: int = 1 << 30

    def clear(self, windows: Windows) -> list[ClearedRun]:
        """The runs of the next windows that need it: none, in most recordings."""
        if not len(windows):
            return []
        shapes, back = _lowest_shapes(windows.shape[1])
        parts = windows @ shapes
        power = np.einsum("ij,ij->i", windows, windows)
        drowned = np.square(parts[:, :_LOWEST_SHAPES]).sum(axis=1) > _BELOW_SPEECH * power
        clean = windows
        if drowned.any():
            clean = windows.copy()
            clean[drowned] -= parts[drowned] @ back
            power = np.einsum("ij,ij->i", clean, clean)
        level = power / windows.shape[1]
        heard_db = self._follow(level)
        soft = heard_db < _SOFT_DB
        needed = (drowned | soft) & (level > _NOTHING)
        held = self._held(needed)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]))).reshape(-1, 2).tolist()
        runs: list[ClearedRun] = []
        for begin, end in edges:
            gains_db = np.where(soft[begin:end], np.minimum(_CLEAR_DB - heard_db[begin:end], _MOST_GAIN_DB), 0.0)
            gains = (10 ** (gains_db / 20)).astype(np.float32)[:, np.newaxis]
            runs.append(
                ClearedRun(begin, clean[begin:end] * gains, needed[begin:end], continues=begin == 0 and self.open)
            )
        self.open = bool(held[-1])
        return runs

    def _held(self, needed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The same, and the frames after each."""
        frames = np.arange(len(needed))
        latest = np.maximum.accumulate(np.where(needed, frames, -1 - self.since))
        since = frames - latest
        hold = round(_HOLD_S / self.frame_s)
        self.since = min(int(since[-1]), hold)
        return np.asarray(since < hold)

    def _follow(self, power: NDArray[np.float32]) -> NDArray[np.float64]:
        """The level at each frame, in dB: that of the loudest sound so far, as far as it is not forgotten."""
        fades_db = _FADES_DB_S * self.frame_s
        faded = fades_db * np.arange(1, len(power) + 1)
        levels = 10 * np.log10(np.maximum(power.astype(np.float64), 1e-20))
        levels[0] = max(levels[0], self.level_db - fades_db)
        levels = np.asarray(np.maximum.accumulate(levels + faded) - faded, np.float64)
        self.level_db = float(levels[-1])
        return np.asarray(levels)


@cache
def _lowest_shapes(length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Legendre polynomials over so many samples, orthonormal, shape ``(length, _REMOVED_SHAPES)``; and transposed.

    The second is a copy: OpenBLAS splits a product with a transposed view among threads that wait for each other, which
    took three times as much CPU as the detector itself.
    """
    polynomials = np.polynomial.legendre.legvander(np.linspace(-1, 1, length), _REMOVED_SHAPES - 1)
    shapes = np.ascontiguousarray(np.linalg.qr(polynomials)[0], np.float32)
    return shapes, np.ascontiguousarray(shapes.T)
