"""A transcript in the format that was asked for."""

from collections.abc import Iterable

from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from ....domain.captions import to_srt, to_vtt
from ....domain.transcript import Transcript
from .request import ResponseFormat, TranscriptionRequest
from .schemas import (
    DiarizedSegmentBody,
    LogprobBody,
    OpenAIDiarizedBody,
    OpenAISegmentBody,
    OpenAITranscriptionBody,
    OpenAITranslationBody,
    OpenAIVerboseBody,
    OpenAIVerboseTranslationBody,
    OpenAIWordBody,
)


def answer(transcript: Transcript, ask: TranscriptionRequest) -> Response:
    """The response, with its body ready; takes long for hours of audio, so call it in a thread."""
    match ask.response_format:
        case ResponseFormat.TEXT:
            return PlainTextResponse(transcript.text + "\n")
        case ResponseFormat.SRT:
            return PlainTextResponse(to_srt(transcript, ask.captions), media_type="application/x-subrip")
        case ResponseFormat.VTT:
            return PlainTextResponse(to_vtt(transcript, ask.captions), media_type="text/vtt")
        case _:
            return Response(_json(transcript, ask), media_type="application/json")


def json_with(body: BaseModel, **lists: Iterable[BaseModel] | None) -> str:
    """The body as JSON, with `lists` behind its own fields; one that is ``None`` is absent.

    Their items are made and written one by one. All at once, those of four hours of speech would hold up every other
    thread for 150 ms: for the serialiser, which does not let go of the interpreter, and for the garbage collector.
    """
    parts = [body.model_dump_json(exclude_none=True).removesuffix("}")]
    for name, items in lists.items():
        if items is not None:
            parts += (f',"{name}":[', ",".join(item.model_dump_json(exclude_none=True) for item in items), "]")
    return "".join((*parts, "}"))


def _json(transcript: Transcript, ask: TranscriptionRequest) -> str:
    verbose = ask.response_format is ResponseFormat.VERBOSE_JSON
    segments = OpenAISegmentBody.all_of(transcript) if ask.segments else None
    if ask.task == "translate":
        if verbose:
            return json_with(OpenAIVerboseTranslationBody.of(transcript), segments=segments)
        return json_with(OpenAITranslationBody(text=transcript.text))
    if ask.response_format is ResponseFormat.DIARIZED_JSON:
        return json_with(OpenAIDiarizedBody.of(transcript), segments=DiarizedSegmentBody.all_of(transcript))
    if verbose:
        words = OpenAIWordBody.all_of(transcript) if ask.words else None
        return json_with(OpenAIVerboseBody.of(transcript, language=ask.language), words=words, segments=segments)
    logprobs = LogprobBody.all_of(transcript.words) if ask.logprobs else None
    return json_with(OpenAITranscriptionBody.of(transcript), logprobs=logprobs)
