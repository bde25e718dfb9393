"""Words and texts as Deepgram writes them."""

import uuid
from collections.abc import Sequence
from itertools import pairwise

from ....application.ports.speech_model import ModelDescription
from ....domain.transcript import Word, join_words
from ..guards.websocket_gateway import JsonObject

_MARKS = '.,;:!?…"“”„«»()[]¿¡'


def bare(word: Word) -> str:
    """The word in small letters, without the marks around it; what is nothing but marks stays."""
    return word.text.strip(_MARKS).lower() or word.text


def text_of(words: Sequence[Word], *, punctuates: bool) -> str:
    """The words as they read, or bare."""
    return join_words(words) if punctuates else " ".join(map(bare, words))


def words_json(words: Sequence[Word], *, punctuates: bool) -> list[JsonObject]:
    """The words with their times in seconds."""
    told: list[JsonObject] = []
    for word in words:
        one: JsonObject = {
            "word": bare(word),
            "start": seconds(word.start_s),
            "end": seconds(word.end_s),
            "confidence": round(word.confidence, 4),
        }
        told.append(one | {"punctuated_word": word.text} if punctuates else one)
    return told


def confidence_of(words: Sequence[Word]) -> float:
    """The mean of the words' own; 0 where there are none."""
    return round(sum(word.confidence for word in words) / len(words), 4) if words else 0.0


def split_at_pauses(words: Sequence[Word], pause_s: float) -> list[Sequence[Word]]:
    """The words in runs between pauses of at least `pause_s`."""
    if not words:
        return []
    cuts = [at for at, (one, next_) in enumerate(pairwise(words), 1) if next_.start_s - one.end_s >= pause_s]
    return [words[begin:end] for begin, end in pairwise([0, *cuts, len(words)])]


def seconds(time_s: float) -> float:
    """A time to the millisecond."""
    return round(time_s, 3)


def model_uuid(model: ModelDescription) -> str:
    """A name for the model in the form that Deepgram's have; always the same for the same model."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, model.id))


def model_info(model: ModelDescription) -> JsonObject:
    """The model as answers describe it."""
    return {"name": model.id, "version": model.precision, "arch": model.architecture}
