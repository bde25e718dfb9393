"""A transcript in the format that was asked for."""

from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from ...domain.captions import to_srt, to_vtt
from ...domain.transcript import Transcript
from .openai_request import Ask, ResponseFormat
from .openai_schemas import (
    OpenAITranscriptionBody,
    OpenAITranslationBody,
    OpenAIVerboseBody,
    OpenAIVerboseTranslationBody,
)


def answer(transcript: Transcript, ask: Ask) -> Response:
    """The response, with its body ready; takes long for hours of audio, so call it in a thread."""
    match ask.response_format:
        case ResponseFormat.TEXT:
            return PlainTextResponse(transcript.text + "\n")
        case ResponseFormat.SRT:
            return PlainTextResponse(to_srt(transcript), media_type="application/x-subrip")
        case ResponseFormat.VTT:
            return PlainTextResponse(to_vtt(transcript), media_type="text/vtt")
        case _:
            return Response(_json(transcript, ask).model_dump_json(exclude_none=True), media_type="application/json")


def _json(transcript: Transcript, ask: Ask) -> BaseModel:
    verbose = ask.response_format is ResponseFormat.VERBOSE_JSON
    if ask.task == "translate":
        return OpenAIVerboseTranslationBody.of(transcript) if verbose else OpenAITranslationBody(text=transcript.text)
    if verbose:
        return OpenAIVerboseBody.of(transcript, language=ask.language, words=ask.words, segments=ask.segments)
    return OpenAITranscriptionBody.of(transcript, logprobs=ask.logprobs)
