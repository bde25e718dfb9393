"""What is said on one channel of live audio, as messages: mixed audio has only one."""

from collections.abc import Sequence
from dataclasses import replace

from ....application.ports.speech_model import ModelDescription
from ....domain.live import EndCause, Final
from ....domain.transcript import Word
from ..guards.websocket_gateway import JsonObject
from . import messages
from .query import LiveQuery
from .words import confidence_of, model_info, model_uuid, seconds, text_of, words_json


class SpokenChannel:
    """Follows one channel, from the first event to the last."""

    def __init__(self, place: tuple[int, int], model: ModelDescription, query: LiveQuery, *, request_id: str) -> None:
        """Begin before the first event.

        Args:
            place: The number of the channel, counted from 0, and how many there are.
            model: What is loaded.
            query: What the client has asked for.
            request_id: The session's name.
        """
        self._place = list(place)
        self._query = query
        self._metadata: JsonObject = {
            "request_id": request_id,
            "model_info": model_info(model),
            "model_uuid": model_uuid(model),
        }
        self._begun_s = 0.0
        self._punctuates = query.punctuates
        self._span_s = 0.0  # where the text begins that is not final
        self._finalizes = 0  # to be answered
        self._told_start = False
        self._last_word_end_s: float | None = None  # of a silence that is to be told

    def begin(self, at_s: float, *, punctuates: bool) -> None:
        """Times of the events that follow count from here; `punctuates`: texts are as the model writes them."""
        self._begun_s = at_s
        self._punctuates = punctuates

    def finalize(self) -> None:
        """The client wants an answer, whatever was said."""
        self._finalizes += 1

    def started(self, at_s: float) -> Sequence[JsonObject]:
        """Somebody begins to speak."""
        at_s += self._begun_s
        told = self.silence_until(at_s)
        self._last_word_end_s, self._told_start = None, self._query.vad_events
        return (*told, messages.speech_started(self._place, at_s)) if self._told_start else told

    def interim(self, words: Sequence[Word]) -> Sequence[JsonObject]:
        """What the text reads now."""
        return (self._results(words, is_final=False),) if words and self._query.interim_results else ()

    def end(self, final: Final) -> Sequence[JsonObject]:
        """The text of what is final now; empty where the client waits for one."""
        words, told_start = final.words, self._told_start
        self._told_start = False
        finalized = final.cause is EndCause.ASKED and self._finalizes > 0
        self._finalizes -= finalized
        if words:
            self._last_word_end_s = self._begun_s + words[-1].end_s
        if not (words or finalized or told_start):
            return ()
        paused = final.cause is EndCause.SILENCE and self._query.silence_s is not None
        told = self._results(
            words, is_final=True, speech_final=paused or (finalized and bool(words)), from_finalize=finalized
        )
        if words:
            self._span_s = self._begun_s + words[-1].end_s
        return (told,)

    def silence_until(self, time_s: float) -> Sequence[JsonObject]:
        """Tells once that nobody has spoken, since the last word, for as long as the client wants to be told of."""
        limit_ms, last_s = self._query.utterance_end_ms, self._last_word_end_s
        if limit_ms is None or last_s is None or time_s - last_s < limit_ms / 1000:
            return ()
        self._last_word_end_s = None
        return (messages.utterance_end(self._place, last_s),)

    def _results(
        self, words: Sequence[Word], *, is_final: bool, speech_final: bool = False, from_finalize: bool = False
    ) -> JsonObject:
        until_s = self._begun_s + words[-1].end_s if words else self._span_s
        timed = [
            replace(word, start_s=self._begun_s + word.start_s, end_s=self._begun_s + word.end_s) for word in words
        ]
        alternative: JsonObject = {
            "transcript": text_of(words, punctuates=self._punctuates),
            "confidence": confidence_of(words),
            "words": words_json(timed, punctuates=self._punctuates),
        }
        return {
            "type": "Results",
            "channel_index": self._place,
            "duration": seconds(max(until_s - self._span_s, 0.0)),
            "start": seconds(self._span_s),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative]},
            "metadata": self._metadata,
        }
