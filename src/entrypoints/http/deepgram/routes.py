"""`POST /v1/listen`: a recording in, its text out."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi import APIRouter, Request, UploadFile
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from ....application.ports.web_client import WebClient
from ....application.service import Service
from ....domain.errors import InvalidRequestError
from ....domain.transcript import Transcript
from ..guards.error_responses import LISTEN
from ..guards.error_schemas import DeepgramErrorBody
from ..guards.request_context import note, request_context
from ..recordings.uploads import IGNORED_HEADER, documented_errors, pieces_of, while_connected
from ..recordings.warnings import add_warnings
from .audio import RawAudio
from .query import RecordingQuery
from .recording_body import Upload, recording_body

REQUEST_ID_HEADER = "dg-request-id"
_IN_MEMORY_BYTES = 1 << 20


def router(service: Service) -> APIRouter:
    """The route for recordings."""

    async def listen(request: Request) -> Response:
        """Transcribe one recording, as Deepgram does: the body is the recording, or JSON with its `url`.

        `x-ignored-parameters` names what has no effect. `redact` and `callback` are refused.
        """
        query, model = RecordingQuery.of(request.query_params), service.model.describe()
        query.check_model(model)
        query.language_code(model)
        decoding = query.decoding(model)
        context, digest = request_context(request), hashlib.sha256()

        async def transcribe(pieces: AsyncIterator[bytes]) -> Transcript:
            source = _described(_digested(pieces, digest.update), query)
            try:
                return await service.transcribe_file(
                    source, caller=context.caller, decoding=decoding, separate=query.multichannel
                )
            except InvalidRequestError as error:
                if error.details["param"] != "channels":
                    raise
                raise _too_many_channels(error) from error

        if _is_json(request):
            transcript = await while_connected(request, _fetched(service.web, await _url_of(request), transcribe))
        else:
            async with _received(request) as file:
                transcript = await while_connected(request, transcribe(pieces_of(file)))
        note(request, audio_s=round(transcript.duration_s, 3))
        upload = Upload(context.request_id, digest.hexdigest(), datetime.now(UTC))

        def body() -> bytes:
            return json.dumps(recording_body(transcript, query, model, upload), ensure_ascii=False).encode()

        response = Response(await asyncio.to_thread(body), media_type="application/json")
        response.headers[REQUEST_ID_HEADER] = context.request_id
        if ignored := query.ignored(request.query_params, model):
            response.headers[IGNORED_HEADER] = ", ".join(ignored)
        add_warnings(response, transcript)
        return response

    routes = APIRouter(tags=["Deepgram"])
    routes.add_api_route(
        LISTEN,
        listen,
        methods=["POST"],
        summary="Transcribe a recording, as Deepgram does",
        responses={200: _DOCUMENTED, **documented_errors(DeepgramErrorBody, without={404, 415, 422})},
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}},
    )
    return routes


_DOCUMENTED: dict[str, Any] = {
    "content": {"application/json": {"schema": {"type": "object"}}},
    "headers": {
        IGNORED_HEADER: {
            "description": "parameters that have no effect, separated by commas",
            "schema": {"type": "string"},
        }
    },
}


def _too_many_channels(error: InvalidRequestError) -> InvalidRequestError:
    message = error.message.replace("channels=separate", "multichannel")
    return InvalidRequestError(message, param="multichannel")


class _Named(BaseModel):
    """A recording by its address."""

    url: str


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("application/json")


async def _url_of(request: Request) -> str:
    try:
        return _Named.model_validate_json(await request.body()).url
    except ValidationError as error:
        raise InvalidRequestError("url: the body must be JSON with the url of a recording.", param="url") from error


async def _fetched(
    web: WebClient, url: str, transcribe: Callable[[AsyncIterator[bytes]], Awaitable[Transcript]]
) -> Transcript:
    async with web.fetch(url) as pieces:
        return await transcribe(pieces)


@asynccontextmanager
async def _received(request: Request) -> AsyncGenerator[UploadFile]:
    """The body, as forms are kept: in memory if it is small, and in an unlinked file if not."""
    file = UploadFile(cast("BinaryIO", SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)))  # noqa: SIM115 - closed below
    try:
        async for piece in request.stream():
            await file.write(piece)
        await file.seek(0)
        yield file
    finally:
        await file.close()


async def _digested(pieces: AsyncIterator[bytes], update: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        update(piece)
        yield piece


async def _described(pieces: AsyncIterator[bytes], query: RecordingQuery) -> AsyncIterator[bytes]:
    """The recording; before raw samples, what says so."""
    first = True
    async for piece in pieces:
        if first and query.raw_encoding is not None and not piece.startswith(b"RIFF"):
            yield RawAudio(query.raw_encoding, query.rate_hz, query.channels).wave_head
        first = False
        yield piece
