"""From a stream's hypotheses to utterances: which words are stable, and where an utterance ends."""

import math
from itertools import pairwise

from .endpointing import Endpointing
from .hypothesis import Hypothesis
from .live import EndCause, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from .transcript import GrowingWords, Token, Word, monotone_times

_WORDLESS_S = 3.0
"""Sound that is heard as speech for so long, and in which not one word is read, is no utterance."""


class UtteranceTracker:
    """Follows one stream; tells what is news after each step.

    An utterance begins with its first word, or before it where somebody hears speech sooner and calls `begin`. It
    ends where no word was read for as long as `endpointing` says, when it is as long as `longest_s`, or by `finish`.
    """

    def __init__(self, endpointing: Endpointing, *, doubt_s: float = 0.0, longest_s: float = 60.0) -> None:
        """Begin before the first step; believe the decoder's silence only after `doubt_s` more of it."""
        self._silence_s = (math.inf if endpointing.silence_s is None else endpointing.silence_s) + doubt_s
        self._complete_s = (math.inf if endpointing.complete_s is None else endpointing.complete_s) + doubt_s
        self._longest_s = longest_s
        self._finalized = GrowingWords()
        self._draft: tuple[Token, ...] = ()
        self._words: tuple[Word, ...] = ()  # of both
        self._decoded_s = 0.0
        self._begun_s: float | None = None
        self._stopped = False
        self._last: Partial | None = None
        self._utterance = 0
        self._ended_s = 0.0

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun and not ended."""
        return self._begun_s is not None

    @property
    def reads_complete(self) -> bool:
        """Whether the utterance, as far as it is known, ends like a sentence."""
        return bool(self._words) and self._words[-1].ends_sentence

    @property
    def paused(self) -> bool:
        """Whether no word was read for so long that the utterance is over."""
        if self._begun_s is None:
            return False
        if not self._words:
            return self._decoded_s - self._begun_s >= max(_WORDLESS_S, self._silence_s)
        limit_s = min(self._silence_s, self._complete_s) if self.reads_complete else self._silence_s
        return self._decoded_s - self._words[-1].end_s >= limit_s

    def begin(self, at_s: float) -> list[LiveEvent]:
        """Somebody begins to speak; no news if that is known already."""
        if self._begun_s is not None:
            return []
        self._begun_s = at_s
        return [SpeechStarted(at_s)]

    def step(self, hypothesis: Hypothesis, *, received_s: float) -> list[LiveEvent]:
        """Take the news of a step, of a stream of which `received_s` seconds have arrived."""
        self._finalized.extend(hypothesis.finalized)
        self._draft = hypothesis.draft
        self._decoded_s = hypothesis.decoded_until_s
        events: list[LiveEvent] = []
        while cut := self._cut(self._finalized.words):
            events.extend(self._end(*cut))
        self._words = self._finalized.followed_by(self._draft)
        words = self._monotone(self._words)
        # A piece still to come may cling to the last finalized word, be it only a comma.
        stable = max(len(self._finalized.words) - 1, 0)
        if words:
            events.extend(self.begin(words[0].start_s))
        elif self._last is None:
            return events
        # Where the draft was taken back and nothing of it remains, the listener must hear that, too.
        partial = Partial(words[:stable], words[stable:], behind_s=max(received_s - self._decoded_s, 0.0))
        if self._last is None or partial.words != self._last.words or partial.stable != self._last.stable:
            events.append(partial)
        self._last = partial
        return events

    def stop(self, at_s: float) -> list[LiveEvent]:
        """The speaker fell silent at `at_s`: `finish` will follow, once all that was said has been read."""
        if self._begun_s is None or self._stopped:
            return []
        self._stopped = True
        return [SpeechStopped(max(at_s, self._begun_s))]

    def finish(self, cause: EndCause) -> list[LiveEvent]:
        """End the utterance here: call it after a flush, when there is no draft; an empty one if nothing was said."""
        return self._end(len(self._finalized.words), cause)

    def clear(self) -> None:
        """Forget what was said since the last utterance; nothing more is heard of it."""
        self._finalized, self._draft, self._words, self._last = GrowingWords(), (), (), None
        self._begun_s, self._stopped = None, False

    def _cut(self, words: tuple[Word, ...]) -> tuple[int, EndCause] | None:
        """How many words are those of an utterance that is over, though finalized words follow it."""
        for count, (word, following) in enumerate(pairwise(words), 1):
            if following.start_s - word.end_s >= self._silence_s:
                return count, EndCause.SILENCE
            if following.end_s - words[0].start_s > self._longest_s:
                return count, EndCause.LENGTH
        return None

    def _end(self, count: int, cause: EndCause) -> list[LiveEvent]:
        """End the utterance after `count` words."""
        events: list[LiveEvent] = []
        # The words behind the cut have their say in its times, as they had in those of the partials.
        finalized = self._monotone(self._finalized.words)
        words, following = finalized[:count], finalized[count:]
        self._finalized = GrowingWords(token for word in following for token in word.tokens)
        self._words = self._finalized.followed_by(self._draft)
        if words:
            events.extend(self.begin(words[0].start_s))
            self._ended_s = words[-1].end_s
        if self._begun_s is not None:
            events.extend(self.stop(words[-1].end_s if words else self._decoded_s))
        events.append(Final(words, self._utterance, cause))
        self._utterance += 1
        self._begun_s, self._stopped, self._last = None, False, None
        return events

    def _monotone(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        return monotone_times(words, begin_s=self._ended_s, end_s=self._decoded_s)
