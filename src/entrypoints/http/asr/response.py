"""A transcript in the formats that Whisper writes."""

from typing import Literal, TypeAlias

from starlette.responses import PlainTextResponse, Response

from ....domain.captions import to_srt, to_vtt
from ....domain.transcript import Transcript
from ..openai.response import json_with
from ..openai.schemas import OpenAISegmentBody
from .schemas import AsrBody, AsrSegmentBody

Output: TypeAlias = Literal["txt", "vtt", "srt", "tsv", "json"]


def answer(transcript: Transcript, output: Output, *, language: str | None, words: bool) -> Response:
    """The response, with its body ready; takes long for hours of audio, so call it in a thread."""
    match output:
        case "txt":
            return PlainTextResponse("".join(f"{segment.text}\n" for segment in transcript.segments))
        case "vtt":
            return PlainTextResponse(to_vtt(transcript))
        case "srt":
            return PlainTextResponse(to_srt(transcript))
        case "tsv":
            return PlainTextResponse(_tsv(transcript))
        case "json":
            segments = (AsrSegmentBody.all_with_words if words else OpenAISegmentBody.all_of)(transcript)
            body = AsrBody(text=transcript.text, language=language)
            return Response(json_with(body, segments=segments), media_type="application/json")


def _tsv(transcript: Transcript) -> str:
    """Lines of start and end in milliseconds, and text."""
    rows = (
        f"{round(segment.start_s * 1000)}\t{round(segment.end_s * 1000)}\t{segment.text.replace(chr(9), ' ')}\n"
        for segment in transcript.segments
    )
    return "".join(("start\tend\ttext\n", *rows))
