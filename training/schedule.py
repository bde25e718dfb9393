"""What changes in the course of a run: learning rate, augmentation, losses, and the lengths of items."""

import dataclasses
import math

LENGTHS_S = (3.0, 5.0, 8.0, 12.0, 17.0, 24.0, 34.0)
"""Longest items of a batch, seconds; one of them is drawn for each."""
ODDS = (0.12, 0.18, 0.2, 0.16, 0.14, 0.12, 0.08)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What depends on the share of the time that is spent."""

    peak: float = 8e-4
    warm_up: float = 0.06
    clean_until: float = 0.03
    augmented_from: float = 0.12
    short_until: float = 0.06
    transducer_from: float = 0.14
    turning: float = 0.05
    shared_from: float = 0.0
    ctc_share: float = 0.3
    calmer_from: float = 0.8
    late_from: float = 0.6
    teacher_until: float = 0.4

    def rate(self, spent: float) -> float:
        """Learning rate: up in a line, level, and down to zero along a cosine."""
        if spent < self.warm_up:
            return self.peak * spent / self.warm_up
        level = 0.35
        if spent < level:
            return self.peak
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (spent - level) / (1 - level))))

    def strength(self, spent: float) -> float:
        """Of augmentation, 0 to 1; towards the end, when the rate is low, it falls to a half."""
        risen = (spent - self.clean_until) / (self.augmented_from - self.clean_until)
        fallen = 1 - 0.5 * (spent - self.calmer_from) / (1 - self.calmer_from)
        return min(1.0, max(0.0, risen), max(0.5, fallen))

    def share(self, spent: float) -> float:
        """Of the CTC loss that the encoder feels beside the transducer's: whole at the turn to TDT, then less.

        A transducer that knows nothing yet must not unmake what CTC has made.
        """
        if spent < self.shared_from:
            return 0.0
        if not self.transducer_from:
            return self.ctc_share
        turned = (spent - self.transducer_from) / self.turning
        return min(1.0, max(self.ctc_share, 1 - (1 - self.ctc_share) * turned))

    def taught(self, spent: float) -> float:
        """Of the teacher's weight: whole at first, a quarter at the end, when the texts alone decide."""
        return 1 - 0.75 * max(0.0, spent - self.teacher_until) / (1 - self.teacher_until)

    def longest(self, spent: float) -> int:
        """How many of the lengths of items are in use."""
        return 3 if spent < self.short_until else len(LENGTHS_S)
