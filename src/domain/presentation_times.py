"""Where samples stand in a recording whose parts say when they are to be heard."""

_JITTER_S = 0.1
"""By how much a presentation time may be off."""
_LONGEST_HOLE_S = 3600
"""What looks like a longer hole is a clock that was reset."""


class PresentationTimes:
    """Tells how much silence belongs before each piece of a recording, and drops no piece.

    Times that run backwards, as those of recordings that were joined, and times that are far ahead belong to a clock
    that was reset: such a piece follows the one before it, and so do those after it.
    """

    def __init__(self, *, sample_rate_hz: int) -> None:
        """Begin before the first piece."""
        self._jitter = round(_JITTER_S * sample_rate_hz)
        self._longest_hole = _LONGEST_HOLE_S * sample_rate_hz
        self._end = 0
        self._shift = 0

    def silence_before(self, *, at: int, length: int) -> int:
        """How many samples of silence precede the next piece.

        Args:
            at: When it is to be heard, in samples by the recording's own clock.
            length: How many samples it has.
        """
        hole = at + self._shift - self._end
        if hole < -self._jitter or hole > self._longest_hole:
            self._shift -= hole
            hole = 0
        elif self._end > 0 and hole <= self._jitter:
            # Many small ones add up to one that counts.
            hole = 0
        silence = max(hole, 0)
        self._end += silence + length
        return silence
