"""`/v1/jobs`: recordings that are transcribed in the background."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import Request
from starlette.responses import Response

from ....application.drain import Drain
from ....application.run_unless import run_unless
from ....application.transcribe_file import TranscribeFile
from ....application.transcription_jobs import Caller, TranscriptionJobs
from ....domain.errors import JobNotFoundError
from ....domain.jobs import JobEvent, JobStatus
from ..guards.error_schemas import OpenAIProblemBody
from ..guards.request_context import note, request_context
from ..openai.request import ResponseFormat
from ..openai.response import answer
from ..recordings.event_stream import DOCUMENTED_EVENTS
from ..recordings.uploads import IGNORED_HEADER, documented_errors, pieces_of, while_connected
from ..recordings.warnings import add_warnings
from .owners import owner_of
from .request import presented, receive_job, request_schema
from .schemas import JobBody, JobsBody

_LONGEST_WAIT_S = 60.0
_MOST_LISTED = 100
_PROBLEM = {"model": OpenAIProblemBody}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {**_PROBLEM, "description": "You have no job of that id"}}
_ERRORS = documented_errors(OpenAIProblemBody, without={404, 415, 422, 504})
_CONFLICT: dict[int | str, dict[str, Any]] = {409: {**_PROBLEM, "description": "The job is not in such a state"}}


def router(
    jobs: TranscriptionJobs,
    transcribe_file: TranscribeFile,
    *,
    owners: Mapping[str, str],
    drain: Drain,
    heartbeat_s: float = 10.0,
) -> APIRouter:
    """The routes of jobs; `owners` says by the name of a key whose they are."""
    caller = partial(caller_of, owners)

    async def submit(
        request: Request,
        response: Response,
        idempotency_key: Annotated[
            str | None, Header(max_length=256, description="repeat a request with the same key to get the same job")
        ] = None,
    ) -> JobBody:
        """Take a recording, or its URL, with all fields of `/v1/audio/transcriptions`; the text is made later.

        When this answers, the job is stored, and survives restarts of the service.
        """
        try:
            received = await receive_job(
                request, transcribe_file.model.describe(), detects=transcribe_file.detector is not None
            )
            source = None if received.file is None else pieces_of(received.file)
            job = await jobs.submit(caller(request), received.request, source, idempotency_key=idempotency_key)
        finally:
            # The recording lies in a temporary file until then.
            await request.close()
        note(request, job=job.id)
        response.headers["location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
        if received.ignored:
            response.headers[IGNORED_HEADER] = ", ".join(received.ignored)
        return JobBody.of(job)

    async def one(
        request: Request,
        job_id: str,
        wait: Annotated[
            float, Query(ge=0, le=_LONGEST_WAIT_S, description="seconds to wait for the end, at most")
        ] = 0.0,
    ) -> JobBody:
        """A job as it is now, or, with `wait`, at its end if that comes in time."""
        asked = caller(request)
        if wait:
            work = run_unless(drain.wait_begun(), jobs.find(asked, job_id, wait_s=wait))
            # In a tuple, for `None` would mean that the client has left.
            (job,) = await while_connected(request, _one(work))
            if job is not None:
                return JobBody.of(job)
        return JobBody.of(await jobs.find(asked, job_id))

    async def listed(
        request: Request,
        status: JobStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 20,
        after: Annotated[str | None, Query(description="`last_id` of the page before")] = None,
    ) -> JobsBody:
        """Your jobs, the newest first."""
        found = list(await jobs.list(caller(request), status=status, limit=limit + 1, after=after))
        return JobsBody.of(found[:limit], has_more=len(found) > limit)

    async def result(
        request: Request,
        job_id: str,
        response_format: Annotated[
            ResponseFormat | None, Query(description="by default the one that the job was submitted with")
        ] = None,
    ) -> Response:
        """The transcript of a completed job, in any format."""
        job, transcript = await jobs.result(caller(request), job_id)
        # The body of a recording of hours takes long to build: the event loop has others to serve.
        response = await asyncio.to_thread(answer, transcript, presented(job.request, response_format))
        add_warnings(response, transcript)
        return response

    async def events(
        request: Request,
        job_id: str,
        last_event_id: Annotated[str | None, Header(description="go on behind this event")] = None,
    ) -> EventSourceResponse:
        """The news of a job: `job.progress` with the words that became final, and at the end the job.

        The stream ends with `job.completed`, `job.failed` or `job.cancelled`, or when the service stops: connect again
        with `Last-Event-ID`, as browsers do by themselves.
        """
        asked = caller(request)
        # Before the answer begins, for it has a status.
        await jobs.find(asked, job_id)
        after = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else 0
        news = jobs.events(asked, job_id, after=after)
        return EventSourceResponse(_written(news, drain, heartbeat_s), headers=_STREAM_HEADERS)

    async def cancel_or_delete(request: Request, job_id: str) -> Response:
        """Cancel a job that has not ended; delete one that has, with its text and all that is known of it."""
        job = await jobs.cancel_or_delete(caller(request), job_id)
        if job is None:
            return Response(status_code=204)
        return Response(JobBody.of(job).model_dump_json(), media_type="application/json")

    async def send_again(request: Request, job_id: str) -> JobBody:
        """Send the webhook of a job again, under the same `webhook-id`: one that could not be delivered, or was lost."""
        return JobBody.of(await jobs.send_webhook_again(caller(request), job_id))

    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    routes.add_api_route(
        "",
        submit,
        methods=["POST"],
        status_code=202,
        summary="Transcribe in the background",
        response_model=JobBody,
        responses={
            202: {"headers": {"location": {"description": "the job", "schema": {"type": "string"}}}},
            409: {**_PROBLEM, "description": "The Idempotency-Key was used for another request"},
            **_ERRORS,
        },
        openapi_extra=request_schema(),
    )
    routes.add_api_route("", listed, summary="Your jobs", response_model=JobsBody, responses=_NOT_FOUND)
    routes.add_api_route("/{job_id}", one, summary="A job", response_model=JobBody, responses=_NOT_FOUND)
    routes.add_api_route(
        "/{job_id}/result",
        result,
        summary="The transcript of a job",
        response_class=Response,
        responses={
            200: {"content": {kind: {} for kind in ("application/json", *_PLAIN)}},
            **_NOT_FOUND,
            409: {**_PROBLEM, "description": "The job is not completed"},
        },
    )
    routes.add_api_route(
        "/{job_id}/events",
        events,
        summary="The news of a job",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": DOCUMENTED_EVENTS}}, **_NOT_FOUND},
    )
    routes.add_api_route(
        "/{job_id}",
        cancel_or_delete,
        methods=["DELETE"],
        summary="Cancel or delete a job",
        response_class=Response,
        responses={
            200: {"model": JobBody, "description": "It is cancelled"},
            204: {"description": "It is deleted"},
            **_NOT_FOUND,
        },
    )
    routes.add_api_route(
        "/{job_id}/webhook",
        send_again,
        methods=["POST"],
        status_code=202,
        summary="Send a webhook again",
        response_model=JobBody,
        responses={**_NOT_FOUND, **_CONFLICT},
    )
    return routes


def caller_of(owners: Mapping[str, str], request: Request) -> Caller:
    """Who asks; `owners` says by the name of a key whose the jobs are."""
    return Caller(owner_of(owners, request), request_context(request).caller)


_PLAIN = ("text/plain", "application/x-subrip", "text/vtt")
_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def _one(work: Any) -> tuple[Any]:
    return (await work,)


async def _written(news: AsyncGenerator[JobEvent | None], drain: Drain, heartbeat_s: float) -> AsyncGenerator[bytes]:
    told_at = time.monotonic()
    try:
        async for event in news:
            if event is not None:
                told_at = time.monotonic()
                yield format_sse_event(
                    data_str=json.dumps(event.data, ensure_ascii=False), event=event.type, id=str(event.number)
                )
            elif drain.begun:
                return
            elif time.monotonic() - told_at >= heartbeat_s:
                told_at = time.monotonic()
                yield KEEPALIVE_COMMENT
    except JobNotFoundError:
        return  # it was deleted meanwhile
    finally:
        await news.aclose()
