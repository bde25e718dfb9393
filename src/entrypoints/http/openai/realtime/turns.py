"""From the events of a live session to those of the realtime protocol: turns, and their text."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from .....domain.errors import ServiceError
from .....domain.live import Cleared, EndCause, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from .....domain.transcript import Word
from ...guards.error_responses import openai_error
from ...guards.websocket_gateway import JsonObject
from .events import completed_event, delta_event, event, item_event, new_id, transcription_event
from .session_config import SessionConfig

_MOST_WORDS = 10_000
"""An hour of speech. A turn that the client never commits is completed with them, or it would grow without end."""


class Trigger(Enum):
    """Why something was asked for: a `Final`, or `Cleared`."""

    COMMIT = auto()
    CLEAR = auto()
    IDLE = auto()
    """Nobody has spoken for as long as the client wants to be told of."""
    LAST = auto()
    """No more audio comes in this way."""


@dataclass(slots=True)
class _Turn:
    """What is being said; `begun_s` and `stopped_s` are where speech was heard to begin and to stop, if it was."""

    id: str = field(default_factory=lambda: new_id("item"))
    begun_s: float | None = None
    stopped_s: float | None = None
    words: list[Word] = field(default_factory=list[Word])


class Turns:
    """Follows one client's live sessions, which come one after the other; seconds are those of all its audio.

    A turn is what one `Final` has. Where the client alone ends turns, it is what all of them have since it last did.
    """

    def __init__(self) -> None:
        """Begin before the first session."""
        self.completed = 0
        self.ended_s = 0.0
        """Where the last turn ended."""
        self._turn: _Turn | None = None
        self._told = 0  # of the words of the present utterance
        self._previous: str | None = None
        self._asked = deque[tuple[Trigger, float]]()
        self._begin_s = 0.0

    def begin(self, setup: SessionConfig, *, at_s: float, flat: bool) -> None:
        """A live session begins, whose first sample lies at `at_s`."""
        self.setup = setup
        self.flat = flat
        self._begin_s = at_s

    @property
    def is_quiet(self) -> bool:
        """Whether nobody speaks, as far as is known, and nothing is being waited for."""
        return not self._asked and (self._turn is None or self._turn.begun_s is None)

    @property
    def is_asked(self) -> bool:
        """Whether something was asked for that is not answered yet."""
        return bool(self._asked)

    def ask(self, why: Trigger, *, at_s: float) -> None:
        """Something is asked for, after so much audio; answers come in the order of the questions."""
        self._asked.append((why, at_s))

    def hear(self, heard: LiveEvent) -> Iterator[JsonObject]:
        """What the client is to be told of this."""
        match heard:
            case SpeechStarted():
                yield from self._start(self._begin_s + heard.at_s)
            case SpeechStopped():
                yield from self._stop(self._begin_s + heard.at_s)
            case Partial():
                yield from self._tell(heard.stable[self._told :])
                self._told = max(self._told, len(heard.stable))
            case Cleared():
                _, self.ended_s = self._asked.popleft()
                self._turn, self._told = None, 0
                yield event("input_audio_buffer.cleared")
            case Final():
                rest, self._told = heard.words[self._told :], 0
                until_s = self._begin_s + heard.words[-1].end_s if heard.words else self.ended_s
                asked = self._asked.popleft() if heard.cause is EndCause.ASKED else (None, until_s)
                yield from self._end(rest, *asked)

    def fail(self, error: ServiceError) -> Iterator[JsonObject]:
        """The live session has broken down: the turn that is open has no more text to come."""
        if self._turn is not None:
            yield from self._stop(self._turn.begun_s or 0.0)
            turn = self._turn
            yield from self._commit(turn)
            yield transcription_event("failed", turn.id, error=openai_error(error).model_dump())

    @property
    def _client_commits(self) -> bool:
        return self.setup.turn_detection is None

    def _present(self) -> _Turn:
        self._turn = self._turn or _Turn()
        return self._turn

    def _start(self, at_s: float) -> Iterator[JsonObject]:
        turn = self._present()
        if turn.begun_s is None:
            turn.begun_s = at_s
            if not self._client_commits:
                yield event("input_audio_buffer.speech_started", audio_start_ms=_ms(at_s), item_id=turn.id)

    def _stop(self, at_s: float) -> Iterator[JsonObject]:
        turn = self._present()
        if not self._client_commits and turn.begun_s is not None and turn.stopped_s is None:
            turn.stopped_s = at_s
            yield event("input_audio_buffer.speech_stopped", audio_end_ms=_ms(at_s), item_id=turn.id)

    def _tell(self, words: tuple[Word, ...]) -> Iterator[JsonObject]:
        if words:
            turn = self._present()
            yield delta_event(turn.id, words, first=not turn.words, logprobs=self.setup.logprobs)
            turn.words.extend(words)

    def _end(self, rest: tuple[Word, ...], why: Trigger | None, at_s: float) -> Iterator[JsonObject]:
        turn = self._turn
        spoken = bool(rest) or (turn is not None and (turn.begun_s is not None or bool(turn.words)))
        match why:
            case None if self._client_commits:
                yield from self._tell(rest)
                if len(self._present().words) >= _MOST_WORDS:
                    yield from self._complete((), at_s)
            case Trigger.IDLE if not spoken:
                start_ms, end_ms = _ms(self.ended_s), _ms(at_s)
                item_id = self._present().id
                yield event(
                    "input_audio_buffer.timeout_triggered",
                    audio_start_ms=start_ms,
                    audio_end_ms=end_ms,
                    item_id=item_id,
                )
                yield from self._complete(rest, at_s)
            # Where the client ends turns, it gets one for all audio, be it silent.
            case Trigger.COMMIT if self._client_commits and at_s > self.ended_s:
                yield from self._complete(rest, at_s)
            case _ if spoken:
                yield from self._complete(rest, at_s)
            case _:
                self._turn = None

    def _complete(self, rest: tuple[Word, ...], at_s: float) -> Iterator[JsonObject]:
        turn = self._present()
        begun_s, ended_s = self.ended_s, at_s
        if turn.begun_s is not None and turn.stopped_s is not None:
            begun_s, ended_s = turn.begun_s, turn.stopped_s
        yield from self._commit(turn)
        if rest:
            yield delta_event(turn.id, rest, first=not turn.words, logprobs=self.setup.logprobs)
        yield completed_event(
            turn.id,
            (*turn.words, *rest),
            seconds=ended_s - begun_s,
            language=None if self.flat else self.setup.language,
            logprobs=self.setup.logprobs,
        )
        self.ended_s = ended_s
        self.completed += 1

    def _commit(self, turn: _Turn) -> Iterator[JsonObject]:
        """Put the turn into the conversation; the next speech begins another one."""
        previous, self._previous, self._turn = self._previous, turn.id, None
        yield event("input_audio_buffer.committed", item_id=turn.id, previous_item_id=previous)
        # The beta protocol knows the first name alone; the other two are those of today.
        for kind in ("created",) if self.flat else ("created", "added", "done"):
            yield item_event(kind, turn.id, previous=previous)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
