"""The answer to a recording, with the fields that Deepgram's clients read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from ....application.ports.speech_model import ModelDescription
from ....domain.transcript import Transcript, Word
from ..guards.websocket_gateway import JsonObject
from .query import RecordingQuery
from .words import confidence_of, model_info, model_uuid, seconds, split_at_pauses, text_of, words_json

_PARAGRAPH_PAUSE_S = 2.0
_SENTENCES = 5
"""A paragraph ends after so many sentences, or where the speaker pauses behind one."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What is known of a recording beside its text.

    Attributes:
        request_id: The request's name.
        sha256: Of the bytes, in hexadecimal digits.
        created: When it was received.
    """

    request_id: str
    sha256: str
    created: datetime


def recording_body(
    transcript: Transcript, query: RecordingQuery, model: ModelDescription, upload: Upload
) -> JsonObject:
    """The answer; takes long for hours of audio, so call it in a thread."""
    apart = transcript.channels
    channels = [transcript] if apart is None else [transcript.of_channel(number) for number in range(apart)]
    results: JsonObject = {"channels": [_channel(channel.words, query, model) for channel in channels]}
    if query.utterances:
        results["utterances"] = _utterances([channel.words for channel in channels], query, upload)
    uuid = model_uuid(model)
    metadata: JsonObject = {
        "transaction_key": "deprecated",
        "request_id": upload.request_id,
        "sha256": upload.sha256,
        "created": upload.created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "duration": seconds(transcript.duration_s),
        "channels": len(channels),
        "models": [uuid],
        "model_info": {uuid: model_info(model)},
    }
    if query.tag:
        metadata["tags"] = list(query.tag)
    return {"metadata": metadata, "results": results}


def _channel(words: Sequence[Word], query: RecordingQuery, model: ModelDescription) -> JsonObject:
    punctuates = query.punctuates
    alternative: JsonObject = {
        "transcript": text_of(words, punctuates=punctuates),
        "confidence": confidence_of(words),
        "words": words_json(words, punctuates=punctuates),
    }
    if query.paragraphs or query.smart_format:
        alternative["paragraphs"] = _paragraphs(words)
    channel: JsonObject = {"alternatives": [alternative]}
    if query.detects_language and len(model.languages) == 1:
        channel["detected_language"] = model.languages[0]
    return channel


def _utterances(channels: Sequence[Sequence[Word]], query: RecordingQuery, upload: Upload) -> list[JsonObject]:
    """What was said between pauses, as people took turns."""
    runs = [(number, run) for number, words in enumerate(channels) for run in split_at_pauses(words, query.utt_split)]
    runs.sort(key=lambda one: one[1][0].start_s)
    return [
        {
            "start": seconds(run[0].start_s),
            "end": seconds(run[-1].end_s),
            "confidence": confidence_of(run),
            "channel": channel,
            "transcript": text_of(run, punctuates=query.punctuates),
            "words": words_json(run, punctuates=query.punctuates),
            "id": f"{upload.request_id}-{number}",
        }
        for number, (channel, run) in enumerate(runs)
    ]


def _paragraphs(words: Sequence[Word]) -> JsonObject:
    paragraphs = _group(_sentences(words))
    texts = [" ".join(text_of(sentence, punctuates=True) for sentence in paragraph) for paragraph in paragraphs]
    return {
        "transcript": "\n" + "\n\n".join(texts) if texts else "",
        "paragraphs": [
            {
                "sentences": [
                    {
                        "text": text_of(sentence, punctuates=True),
                        "start": seconds(sentence[0].start_s),
                        "end": seconds(sentence[-1].end_s),
                    }
                    for sentence in paragraph
                ],
                "num_words": sum(map(len, paragraph)),
                "start": seconds(paragraph[0][0].start_s),
                "end": seconds(paragraph[-1][-1].end_s),
            }
            for paragraph in paragraphs
        ],
    }


def _sentences(words: Sequence[Word]) -> list[Sequence[Word]]:
    cuts = [at for at, word in enumerate(words, 1) if word.ends_sentence and at < len(words)]
    return [words[begin:end] for begin, end in pairwise([0, *cuts, len(words)])] if words else []


def _group(sentences: Sequence[Sequence[Word]]) -> list[list[Sequence[Word]]]:
    paragraphs: list[list[Sequence[Word]]] = []
    for sentence in sentences:
        follows = paragraphs and len(paragraphs[-1]) < _SENTENCES
        if follows and sentence[0].start_s - paragraphs[-1][-1][-1].end_s < _PARAGRAPH_PAUSE_S:
            paragraphs[-1].append(sentence)
        else:
            paragraphs.append([sentence])
    return paragraphs
