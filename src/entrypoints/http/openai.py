"""OpenAI's audio routes, for the clients that speak its language.

Source: https://github.com/openai/openai-python, 3.54.0, Apache-2.0: the requests as that client sends them.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse

from ...application.ports.speech_model import ModelDescription, SpeechModel
from ...application.transcribe_file import TranscribeFile
from ...domain.captions import to_srt, to_vtt
from ...domain.errors import InvalidRequestError, UnknownModelError
from ...domain.transcript import Transcript
from .openai_schemas import (
    OpenAIModelBody,
    OpenAIModelsBody,
    OpenAIProblemBody,
    OpenAITranscriptionBody,
    OpenAIVerboseBody,
)
from .record import note
from .uploads import documented_problems, pieces_of, while_connected

ALIASES = frozenset({"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe", "parakeet"})
"""Names that mean the loaded model, whatever it is: many clients cannot be told another one."""


class ResponseFormat(StrEnum):
    """How the transcript is written."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VERBOSE_JSON = "verbose_json"
    VTT = "vtt"
    DIARIZED_JSON = "diarized_json"


def router(*, transcribe_file: Callable[[], TranscribeFile], model: Callable[[], SpeechModel]) -> APIRouter:
    """The routes below ``/v1``."""
    began = int(time.time())

    async def transcriptions(
        request: Request,
        file: Annotated[UploadFile, File(description="a recording in any usual format")],
        *,
        # The parameter's name is the field's; `model` is taken.
        name: Annotated[str, Form(alias="model", description="the loaded model's name, or a usual alias")],
        language: Annotated[str, Form(description="ISO 639-1 code; must be one that the model writes")] = "",
        prompt: Annotated[str, Form(description="taken, without effect")] = "",  # noqa: ARG001
        response_format: Annotated[ResponseFormat, Form()] = ResponseFormat.JSON,
        temperature: Annotated[float, Form(ge=0, le=1, description="taken, without effect")] = 0.0,
        granularities: Annotated[
            list[str], Form(alias="timestamp_granularities[]", description="`word`, `segment`; only for verbose_json")
        ] = [],  # noqa: B006
        plain_granularities: Annotated[
            list[str], Form(alias="timestamp_granularities", description="the same, without brackets")
        ] = [],  # noqa: B006
        stream: Annotated[bool, Form(description="not served yet")] = False,
    ) -> OpenAITranscriptionBody | OpenAIVerboseBody | PlainTextResponse:
        """Transcribe one recording."""
        description = model().describe()
        _check_model(name, description)
        language_code = _language(language, description)
        asked = _granularities([*granularities, *plain_granularities])
        _check_served(response_format, stream=stream, granularities=asked)
        transcript = await while_connected(request, transcribe_file()(pieces_of(file)))
        note(request, audio_s=round(transcript.duration_s, 3))
        if response_format is ResponseFormat.VERBOSE_JSON:
            return OpenAIVerboseBody.of(
                transcript,
                language=language_code,
                temperature=temperature,
                words="word" in asked,
                segments="segment" in asked or not asked,
            )
        return _plain(transcript, response_format) or OpenAITranscriptionBody.of(transcript)

    async def models() -> OpenAIModelsBody:
        """The model that is loaded."""
        return OpenAIModelsBody(data=[_model_body(model().describe(), began)])

    async def one_model(model_id: str) -> OpenAIModelBody:
        """The model of that name, or alias."""
        description = model().describe()
        _check_model(model_id, description)
        return _model_body(description, began)

    routes = APIRouter(prefix="/v1", tags=["OpenAI"])
    problems = documented_problems(OpenAIProblemBody, without=422)
    # Without it, FastAPI would promise its own 422.
    other: dict[int | str, dict[str, Any]] = {"default": {"model": OpenAIProblemBody, "description": "Any other error"}}
    routes.add_api_route(
        "/audio/transcriptions",
        transcriptions,
        methods=["POST"],
        summary="Transcribe a recording, as OpenAI does",
        response_model=OpenAIVerboseBody | OpenAITranscriptionBody,
        response_model_exclude_none=True,
        responses={**other, **problems},
    )
    routes.add_api_route("/models", models, summary="Models", response_model=OpenAIModelsBody)
    routes.add_api_route(
        "/models/{model_id:path}",
        one_model,
        summary="A model",
        response_model=OpenAIModelBody,
        responses={**other, 404: problems[404]},
    )
    return routes


def _plain(transcript: Transcript, response_format: ResponseFormat) -> PlainTextResponse | None:
    match response_format:
        case ResponseFormat.TEXT:
            return PlainTextResponse(transcript.text + "\n")
        case ResponseFormat.SRT:
            return PlainTextResponse(to_srt(transcript), media_type="application/x-subrip")
        case ResponseFormat.VTT:
            return PlainTextResponse(to_vtt(transcript), media_type="text/vtt")
        case _:
            return None


def _model_body(description: ModelDescription, began: int) -> OpenAIModelBody:
    return OpenAIModelBody(id=description.id, created=began, owned_by="parakeet-service")


def _check_model(name: str, description: ModelDescription) -> None:
    if name not in ALIASES | {description.id, _last_part(description.id)}:
        raise UnknownModelError(f"The model {name!r} is not served here; {description.id!r} is.", param="model")


def _last_part(model_id: str) -> str:
    return model_id.rstrip("/").rpartition("/")[2]


def _language(language: str, description: ModelDescription) -> str | None:
    """The language of the text: what was asked for, or the only one that there is."""
    known = description.languages
    if not language:
        return known[0] if len(known) == 1 else None
    code = language.partition("-")[0].lower()
    if code not in known:
        message = f"The model does not write {language!r}; it writes {', '.join(known)}."
        raise InvalidRequestError(message, param="language")
    return code


def _granularities(asked: list[str]) -> set[str]:
    names = {name.strip() for names in asked for name in names.split(",") if name.strip()}
    if unknown := names - {"word", "segment"}:
        message = f"{min(unknown)!r} is no granularity; word and segment are."
        raise InvalidRequestError(message, param="timestamp_granularities")
    return names


def _check_served(response_format: ResponseFormat, *, stream: bool, granularities: set[str]) -> None:
    if response_format is ResponseFormat.DIARIZED_JSON:
        raise InvalidRequestError("This service does not tell speakers apart.", param="response_format")
    if stream:
        raise InvalidRequestError("This service does not stream the text of recordings yet.", param="stream")
    if granularities and response_format is not ResponseFormat.VERBOSE_JSON:
        message = "timestamp_granularities needs response_format=verbose_json."
        raise InvalidRequestError(message, param="timestamp_granularities")
