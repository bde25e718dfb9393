"""From a stream's hypotheses to utterances: which words are stable, and where an utterance ends."""

from itertools import pairwise

from .hypothesis import Hypothesis
from .live import Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from .transcript import Token, Word, settle_times, words_of


class UtteranceTracker:
    """Follows one stream; tells what is news after each step.

    An utterance ends where nothing was said for `endpoint_s`, or when it is as long as `longest_s`.
    """

    def __init__(self, *, endpoint_s: float, longest_s: float = 60.0) -> None:
        """Begin before the first step."""
        self._endpoint_s = endpoint_s
        self._longest_s = longest_s
        self._finalized: list[Token] = []
        self._draft: tuple[Token, ...] = ()
        self._decoded_s = 0.0
        self._last: Partial | None = None
        self._utterance = 0
        self._ended_s = 0.0

    def step(self, hypothesis: Hypothesis, *, received_s: float) -> list[LiveEvent]:
        """Take the news of a step, of a stream of which `received_s` seconds have arrived."""
        self._finalized.extend(hypothesis.finalized)
        self._draft = hypothesis.draft
        self._decoded_s = hypothesis.decoded_until_s
        events: list[LiveEvent] = []
        while count := self._cut(words_of(self._finalized)):
            events.extend(self._end(count))
        words = self._settled(words_of([*self._finalized, *self._draft]))
        if words:
            # A piece still to come may cling to the last finalized word, be it only a comma.
            stable = max(len(words_of(self._finalized)) - 1, 0)
            partial = Partial(words[:stable], words[stable:], behind_s=max(received_s - self._decoded_s, 0.0))
            if self._last is None:
                events.append(SpeechStarted(words[0].start_s))
            if self._last is None or partial.words != self._last.words or partial.stable != self._last.stable:
                events.append(partial)
            self._last = partial
        elif self._last is not None:
            # The draft was taken back and nothing of it remains: the listener must hear that.
            self._last = None
            events.extend((Partial((), (), behind_s=0.0), SpeechStopped(self._decoded_s)))
        return events

    @property
    def paused(self) -> bool:
        """Whether the utterance's last word, draft or not, has been followed by silence for long enough."""
        words = words_of([*self._finalized, *self._draft])
        return bool(words) and self._decoded_s - words[-1].end_s >= self._endpoint_s

    def finish(self) -> list[LiveEvent]:
        """End the utterance here: call it after a flush, when there is no draft; an empty one if nothing was said."""
        return self._end(len(words_of(self._finalized)))

    def _cut(self, words: tuple[Word, ...]) -> int:
        """How many words are those of an utterance that is over, though finalized words follow it."""
        for count, (word, following) in enumerate(pairwise(words), 1):
            too_long = following.end_s - words[0].start_s > self._longest_s
            if following.start_s - word.end_s >= self._endpoint_s or too_long:
                return count
        return 0

    def _end(self, count: int) -> list[LiveEvent]:
        """End the utterance after `count` words."""
        events: list[LiveEvent] = []
        # The words behind the cut have their say in its times, as they had in those of the partials.
        finalized = self._settled(words_of(self._finalized))
        words, following = finalized[:count], finalized[count:]
        self._finalized = [token for word in following for token in word.tokens]
        if words:
            if self._last is None:
                events.append(SpeechStarted(words[0].start_s))
            events.append(SpeechStopped(words[-1].end_s))
            self._ended_s = words[-1].end_s
            self._last = None
        events.append(Final(words, self._utterance))
        self._utterance += 1
        return events

    def _settled(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        return settle_times(words, begin_s=self._ended_s, end_s=self._decoded_s)
