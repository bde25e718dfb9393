"""Cutting a long recording into windows, at quiet places where there are any, while it arrives."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .audio import Samples
from .vad_gate import SpeechChunk


@dataclass(frozen=True, slots=True, eq=False)
class AudioWindow:
    """A piece of a recording that the model reads at once.

    Attributes:
        samples: Mono samples, shape ``(n,)``, float32.
        start_s: Where its first sample lies in the recording.
        seam_s: Where its own part begins; what it has before that, the previous window has too.
        next_s: Where the next window begins; what it has behind that, the next one has too.
        end_s: Where its last sample ends.
    """

    samples: Samples
    start_s: float
    seam_s: float
    next_s: float
    end_s: float


class WindowCutter:
    """Cuts samples that arrive in blocks of any size into windows; keeps at most one and a half windows.

    Windows are cut in the quietest place of their second half. Where speech goes on without a pause, both
    neighbours read the overlap, so that no word is lost for being cut in two.
    """

    def __init__(self, *, sample_rate_hz: int, longest_s: float, overlap_s: float, start: int = 0) -> None:
        """Plan windows of at most `longest_s`, of which `overlap_s`, at most half of it, may be shared.

        `start` is where the first sample to come lies in the recording.
        """
        self._rate_hz = sample_rate_hz
        self._longest = int(longest_s * sample_rate_hz)
        self._overlap = int(min(overlap_s, longest_s / 2) * sample_rate_hz)
        self._blocks: list[Samples] = []
        self._buffered = 0
        self._start = start  # of the buffer, in samples from the recording's first
        self._seam = start

    def cut(self, samples: Samples) -> list[AudioWindow]:
        """Take a block and give the windows that are complete."""
        self._blocks.append(samples)
        self._buffered += len(samples)
        windows: list[AudioWindow] = []
        # Half a window in reserve keeps the last window from being a splinter, which models read badly.
        while self._buffered >= self._longest * 3 // 2:
            windows.append(self._cut(earliest=self._longest // 2))
        return windows

    def finish(self) -> list[AudioWindow]:
        """Give what is left: one window, or two of about the same size; none if there is nothing."""
        windows: list[AudioWindow] = []
        if self._buffered > self._longest:
            windows.append(self._cut(earliest=max(self._buffered - self._longest + self._overlap, self._longest // 4)))
        if self._buffered:
            windows.append(self._take(self._buffered, keep=0))
        return windows

    def _cut(self, *, earliest: int) -> AudioWindow:
        latest = min(self._longest, self._buffered - self._longest // 4)
        buffer = self._joined()
        quiet = quietest_place(buffer[earliest:latest], self._rate_hz)
        if quiet is not None:
            return self._take(earliest + quiet, keep=0)
        return self._take(latest, keep=self._overlap)

    def _take(self, length: int, *, keep: int) -> AudioWindow:
        buffer = self._joined()
        window = AudioWindow(
            # A window holds nothing but its own samples, which may be all that there is.
            samples=buffer if length == len(buffer) and buffer.base is None else buffer[:length].copy(),
            start_s=self._start / self._rate_hz,
            seam_s=self._seam / self._rate_hz,
            next_s=(self._start + length - keep) / self._rate_hz,
            end_s=(self._start + length) / self._rate_hz,
        )
        self._seam = self._start + length
        self._start += length - keep
        self._blocks = [buffer[length - keep :].copy()]
        self._buffered -= length - keep
        return window

    def _joined(self) -> Samples:
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0]


class SpeechCutter:
    """Cuts the spans of speech of a recording into windows, each by itself; what lies between them is in none.

    Keeps at most one and a half windows.
    """

    def __init__(self, *, sample_rate_hz: int, longest_s: float, overlap_s: float) -> None:
        """Begin before the first span; the rest is as in `WindowCutter`."""
        self._rate_hz = sample_rate_hz
        self._longest_s = longest_s
        self._overlap_s = overlap_s
        self._cutter: WindowCutter | None = None

    def cut(self, chunks: Iterable[SpeechChunk]) -> list[AudioWindow]:
        """Take the next chunks and give the windows that are complete."""
        windows: list[AudioWindow] = []
        for chunk in chunks:
            if self._cutter is None:
                self._cutter = WindowCutter(
                    sample_rate_hz=self._rate_hz,
                    longest_s=self._longest_s,
                    overlap_s=self._overlap_s,
                    start=chunk.start,
                )
            windows += self._cutter.cut(chunk.samples)
            if chunk.closes:
                windows += self.finish()
        return windows

    def finish(self) -> list[AudioWindow]:
        """Give what is left of the last span."""
        cutter, self._cutter = self._cutter, None
        return [] if cutter is None else cutter.finish()


def quietest_place(samples: Samples, sample_rate_hz: int, *, pause_s: float = 0.2) -> int | None:
    """The middle of the quietest `pause_s`, as an index; ``None`` where nothing is quiet beside the rest.

    Quiet is a tenth of the level (-20 dB) that the loud quarter of `samples` exceeds, or silence itself.
    """
    frame = sample_rate_hz // 100
    frames = len(samples) // frame
    width = int(pause_s * 100)
    if frames < width:
        return None
    energy = np.square(samples[: frames * frame].reshape(frames, frame)).mean(axis=1)
    smooth = np.convolve(energy, np.full(width, 1 / width), mode="valid")
    loud = float(np.quantile(energy, 0.75))
    best = int(np.argmin(smooth))
    if smooth[best] > max(loud * 0.01, 1e-10):
        return None
    return (best + width // 2) * frame
