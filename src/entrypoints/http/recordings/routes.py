"""`POST /transcribe`: a recording in, its text out."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.sse import format_sse_event
from starlette.responses import Response

from ....application.ports.speech_model import GREEDY, WIDEST_BEAM, Decoding, ModelDescription
from ....application.transcribe_file import Progress, TranscribeFile
from ....domain.errors import InvalidRequestError, ServiceError
from ....domain.transcript import Transcript
from ..guards.error_responses import error_facts
from ..guards.error_schemas import ErrorBody, ProblemBody
from ..guards.request_context import note, request_context
from .event_stream import DOCUMENTED_EVENTS, stream_events
from .form_fields import Channels, Track
from .keywords import decoding_of
from .schemas import DoneEvent, ProgressEvent, TranscriptionBody
from .uploads import IGNORED_HEADER, documented_errors, pieces_of, unknown_fields, while_connected
from .warnings import WARNINGS_HEADER, add_warnings

_Timestamps = Literal["none", "word", "char"]


def router(transcribe_file: TranscribeFile, *, heartbeat_s: float = 10.0) -> APIRouter:
    """The route for recordings; streams say at least every `heartbeat_s` that they live."""

    async def transcribe(
        request: Request,
        response: Response,
        file: Annotated[UploadFile, File(description="a recording in any usual format; the content decides which")],
        *,
        include_timestamps: Annotated[
            bool, Form(description="add the start and end of words and segments, in seconds")
        ] = False,
        should_chunk: Annotated[
            bool,
            Form(description="split long recordings into chunks; `false` refuses those longer than MAX_AUDIO_DURATION"),
        ] = True,
        timestamp_level: Annotated[
            Literal["word", "char"], Form(description="`char` adds the times of characters")
        ] = "word",
        keywords: Annotated[
            tuple[str, ...],
            Form(description="words and phrases to favour, such as names: repeated, or comma-separated; up to 500"),
        ] = (),
        beam_size: Annotated[
            int,
            Form(
                ge=1,
                le=WIDEST_BEAM,
                description="beam width: wider is slower, 1 is greedy decoding; with keywords, 1 means the default width",
            ),
        ] = 1,
        track: Track = None,
        channels: Channels = "mix",
        stream: Annotated[
            bool,
            Form(
                description="send words while the recording is being transcribed, as server-sent events; the answer comes last"
            ),
        ] = False,
    ) -> TranscriptionBody | Response:
        """Transcribe one recording; silence has an empty text.

        `warnings`, and the header `x-warnings`, tell what was passed over, such as further audio tracks.

        With `stream`, events of the type `progress` have the words that became final and the `draft` after them, with
        their times, and how far the recording has been read; the last one, `done`, is the answer. An `error` may take
        its place. If you leave before the end, the work stops.
        """
        decoding = decoding_of(keywords, beam_size=beam_size)
        if decoding != GREEDY:
            _check(decoding, transcribe_file.model.describe())
        timestamps: _Timestamps = timestamp_level if include_timestamps else "none"

        def work(on_progress: Callable[[Progress], None] | None) -> Coroutine[Any, Any, Transcript]:
            return transcribe_file(
                pieces_of(file),
                caller=request_context(request).caller,
                chunked=should_chunk,
                decoding=decoding,
                track=track,
                separate=channels == "separate",
                on_progress=on_progress,
            )

        ignored = {IGNORED_HEADER: ", ".join(unknown)} if (unknown := await unknown_fields(request)) else {}
        if stream:
            streamed = await stream_events(request, work, _Events(timestamps), heartbeat_s=heartbeat_s)
            streamed.headers.update(ignored)
            return streamed
        response.headers.update(ignored)
        transcript = await while_connected(request, work(None))
        note(request, audio_s=round(transcript.duration_s, 3))
        add_warnings(response, transcript)
        return TranscriptionBody.of(transcript, timestamps=timestamps)

    routes = APIRouter(tags=["transcription"])
    routes.add_api_route(
        "/transcribe",
        transcribe,
        methods=["POST"],
        summary="Transcribe a recording",
        response_model=TranscriptionBody,
        response_model_exclude_none=True,
        responses={200: _STREAMED, **documented_errors(ProblemBody, without={404})},
    )
    return routes


_STREAMED = {
    "content": {"text/event-stream": DOCUMENTED_EVENTS},
    "headers": {WARNINGS_HEADER: {"description": "what was passed over", "schema": {"type": "string"}}},
}


@dataclass(frozen=True, slots=True)
class _Events:
    """The events of one recording; `timestamps` are those of the answer at the end."""

    timestamps: _Timestamps

    def progress(self, news: Progress) -> bytes:
        return format_sse_event(data_str=ProgressEvent.of(news).model_dump_json(exclude_none=True))

    def done(self, transcript: Transcript) -> bytes:
        answer = DoneEvent.of(transcript, timestamps=self.timestamps)
        return format_sse_event(data_str=answer.model_dump_json(exclude_none=True))

    def failed(self, error: ServiceError) -> bytes:
        body = ProblemBody(error=ErrorBody.model_validate(error_facts(error)))
        return format_sse_event(data_str=body.model_dump_json())


def _check(decoding: Decoding, model: ModelDescription) -> None:
    if not model.searches:
        param = "keywords" if decoding.phrases else "beam_size"
        raise InvalidRequestError(f"{model.id} does not support keywords or beam search.", param=param)
