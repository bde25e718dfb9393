"""OpenAI's audio routes, for the clients that speak its language."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Request, UploadFile
from starlette.responses import Response

from ....application.ports.speech_model import SpeechModel
from ....application.transcribe_file import Progress, TranscribeFile
from ....domain.transcript import Transcript
from ..guards.error_schemas import OpenAIProblemBody
from ..guards.request_context import note, request_context
from ..recordings.event_stream import DOCUMENTED_EVENTS
from ..recordings.form_fields import Track
from ..recordings.uploads import IGNORED_HEADER, documented_errors, pieces_of, unknown_fields, while_connected
from ..recordings.warnings import WARNINGS_HEADER, add_warnings
from .caption_form import CaptionForm
from .models import check_model, model_body
from .request import TranscriptionForm, TranscriptionRequest, TranslationForm
from .response import answer
from .schemas import (
    OpenAIDiarizedBody,
    OpenAIModelBody,
    OpenAIModelsBody,
    OpenAITranscriptionBody,
    OpenAITranslationBody,
    OpenAIVerboseBody,
    OpenAIVerboseTranslationBody,
)
from .sse import stream_text

_Recording = Annotated[UploadFile, File(description="a recording in any usual format; the content decides which")]
_PLAIN = ("text/plain", "application/x-subrip", "text/vtt")


def router(transcribe_file: TranscribeFile, *, model: SpeechModel, heartbeat_s: float = 10.0) -> APIRouter:
    """The routes below ``/v1``; streams say at least every `heartbeat_s` that they live."""
    since = int(time.time())

    async def transcriptions(
        request: Request,
        file: _Recording,
        form: Annotated[TranscriptionForm, Depends()],
        captions: Annotated[CaptionForm, Depends()],
        *,
        track: Track = None,
    ) -> Response:
        """Transcribe one recording.

        With `stream`, deltas that add up to the text are sent while the recording is still being read. If you leave
        before the end, the work stops. `x-ignored-parameters` names what was taken without effect.
        """
        description = model.describe()
        check_model(form.model, description)
        detects = transcribe_file.detector is not None
        ask = form.read(description, detects=detects)
        return await serve(request, file, replace(ask, captions=captions.style(), track=track))

    async def translations(
        request: Request,
        file: _Recording,
        form: Annotated[TranslationForm, Depends()],
        captions: Annotated[CaptionForm, Depends()],
        *,
        track: Track = None,
    ) -> Response:
        """Write English speech in English; other languages are refused, for this service does not translate."""
        description = model.describe()
        check_model(form.model, description)
        ask = form.read(description)
        return await serve(request, file, replace(ask, captions=captions.style(), track=track))

    async def serve(request: Request, file: UploadFile, ask: TranscriptionRequest) -> Response:
        def work(on_progress: Callable[[Progress], None] | None) -> Coroutine[Any, Any, Transcript]:
            return transcribe_file(
                pieces_of(file),
                caller=request_context(request).caller,
                decoding=ask.decoding,
                detection=ask.detection,
                track=ask.track,
                separate=ask.separate,
                on_progress=on_progress,
            )

        response: Response
        if ask.stream:
            response = await stream_text(request, work, logprobs=ask.logprobs, heartbeat_s=heartbeat_s)
        else:
            transcript = await while_connected(request, work(None))
            note(request, audio_s=round(transcript.duration_s, 3))
            # The body of a recording of hours takes long to build: the event loop has others to serve.
            response = await asyncio.to_thread(answer, transcript, ask)
            add_warnings(response, transcript)
        if ignored := (*ask.ignored, *await unknown_fields(request)):
            response.headers[IGNORED_HEADER] = ", ".join(ignored)
        return response

    async def models() -> OpenAIModelsBody:
        """The model that is loaded, and the other names that mean it."""
        return OpenAIModelsBody(data=[model_body(model.describe(), since=since)])

    async def one_model(model_id: str) -> OpenAIModelBody:
        """The model of that name, or alias."""
        description = model.describe()
        check_model(model_id, description)
        return model_body(description, since=since)

    routes = APIRouter(prefix="/v1", tags=["OpenAI"])
    errors = documented_errors(OpenAIProblemBody, without={415, 422})
    # Without it, FastAPI would promise its own 422.
    other: dict[int | str, dict[str, Any]] = {"default": {"model": OpenAIProblemBody, "description": "Any other error"}}
    add_post = partial(routes.add_api_route, methods=["POST"])
    add_post(
        "/audio/transcriptions",
        transcriptions,
        summary="Transcribe a recording, as OpenAI does",
        response_model=OpenAIVerboseBody | OpenAIDiarizedBody | OpenAITranscriptionBody,
        responses={200: _documented(*_PLAIN, **{"text/event-stream": DOCUMENTED_EVENTS}), **other, **errors},
    )
    add_post(
        "/audio/translations",
        translations,
        summary="Write English speech in English, as OpenAI does",
        response_model=OpenAIVerboseTranslationBody | OpenAITranslationBody,
        responses={200: _documented(*_PLAIN), **other, **errors},
    )
    routes.add_api_route(
        "/models",
        models,
        summary="Models",
        response_model=OpenAIModelsBody,
        responses={**other, 401: errors[401], 503: errors[503]},
    )
    routes.add_api_route(
        "/models/{model_id:path}",
        one_model,
        summary="A model",
        response_model=OpenAIModelBody,
        responses={**other, 404: errors[404]},
    )
    return routes


def _documented(*plain: str, **more: dict[str, Any]) -> dict[str, Any]:
    """For the documentation: the other kinds of an answer, those of text and more, and its headers."""
    return {
        "content": {kind: {"schema": {"type": "string"}} for kind in plain} | more,
        "headers": {
            IGNORED_HEADER: {
                "description": "parameters that were taken without effect, separated by commas",
                "schema": {"type": "string"},
            },
            WARNINGS_HEADER: {
                "description": "what of the recording was passed over, a sentence each, separated by |",
                "schema": {"type": "string"},
            },
        },
    }
