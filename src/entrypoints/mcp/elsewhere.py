"""A service that runs elsewhere, as the tools ask it: over HTTP, with its streams and jobs."""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ValidationError
from starlette.requests import Request

from .answers import (
    EVENT,
    ConfigAnswer,
    DoneAnswer,
    FailedAnswer,
    JobAnswer,
    NotReadyAnswer,
    ProgressAnswer,
    VerboseAnswer,
)
from .transcription import LONGEST_WAIT_S, Format, JobOutput, Reading, SpanOutput, TranscriptOutput, Writing

_TIMEOUT = httpx2.Timeout(LONGEST_WAIT_S + 60.0, connect=20.0)
"""The service says at least every 10 s that it lives, but for a job whose end is waited for."""
_JOB_ID = re.compile(r"\w+", re.ASCII)
_NO_JOBS = "The service has no jobs: JOBS=off, or it is an older version."
_TOO_SLOW = " Where start_transcription is listed, it has no such limit."


def client_of(url: str, api_key: str | None) -> httpx2.AsyncClient:
    """A client of the service at `url`, such as ``http://host:8000``."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=_TIMEOUT)


class RemoteTranscriber:
    """Sends recordings to the service, whose limits and keys hold."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        """Ask by `http`, which has the service's URL and the key."""
        self._http = http

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        reading: Reading,
        writing: Writing,
        *,
        request: Request | None,
        on_progress: Callable[[float], None],
    ) -> TranscriptOutput:
        """See `Transcriber`."""
        del request
        fields = [*_fields(reading), ("include_timestamps", "true"), ("stream", "true")]
        head, body = _multipart(fields, source)
        async with (
            _answered(self._http),
            self._http.stream("POST", "/transcribe", headers=head, content=body) as answer,
        ):
            await _check(answer)
            async for line in answer.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").encode(errors="replace")
                match EVENT.validate_json(data):
                    case ProgressAnswer() as news:
                        on_progress(news.read_until)
                    case DoneAnswer() as done:
                        return await _output(done, writing)
                    case FailedAnswer():
                        raise _refusal(data, answer.status_code)
        raise ToolError(f"{self._http.base_url} ended its answer too early: it was stopped, or could not be reached.")

    async def status(self) -> str:
        """See `Transcriber`."""
        async with _answered(self._http):
            answer = await self._http.get("/readyz")
            if answer.status_code == 503:
                return NotReadyAnswer.model_validate_json(answer.content).reason
            await _check(answer)
            answer = await self._http.get("/config")
            await _check(answer)
            model = ConfigAnswer.model_validate_json(answer.content).model
            return "not ready" if model is None else f"ready: {model.id}"


class RemoteJobs:
    """The jobs of the service."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        """Ask by `http`, which has the service's URL and the key."""
        self._http = http

    async def are_on(self) -> bool:
        """See `BackgroundJobs`; a service that cannot be asked may have them."""
        try:
            answer = await self._http.get("/v1/jobs", params={"limit": 1}, timeout=5.0)
        except httpx2.TransportError:
            return True
        return answer.status_code != 404

    async def start(
        self, source: AsyncIterable[bytes] | str, reading: Reading, *, request: Request | None
    ) -> JobOutput:
        """See `BackgroundJobs`."""
        del request
        async with _answered(self._http):
            if reading.keywords:
                await self._check_keywords()
            if isinstance(source, str):
                fields: dict[str, Any] = {
                    "file_url": source,
                    "keywords": list(reading.keywords),
                    "channels": reading.channels,
                }
                if reading.track is not None:
                    fields["track"] = reading.track
                answer = await self._http.post("/v1/jobs", json=fields)
            else:
                head, body = _multipart(_fields(reading), source)
                answer = await self._http.post("/v1/jobs", headers=head, content=body)
            await _check(answer, missing=_NO_JOBS)
            return JobAnswer.model_validate_json(answer.content).output()

    async def _check_keywords(self) -> None:
        """Refuse what the route for jobs would pass over."""
        answer = await self._http.get("/config")
        await _check(answer)
        model = ConfigAnswer.model_validate_json(answer.content).model
        if model is not None and not model.searches:
            raise ToolError(f"{model.id} does not support keywords. (invalid_request)")

    async def find(self, job_id: str, writing: Writing, *, wait_s: float, request: Request | None) -> JobOutput:
        """See `BackgroundJobs`."""
        del request
        if not _JOB_ID.fullmatch(job_id):
            raise ToolError(f"There is no job {job_id!r}. (job_not_found)")
        path = f"/v1/jobs/{job_id}"
        async with _answered(self._http):
            answer = await self._http.get(path, params={"wait": wait_s})
            await _check(answer, missing=_NO_JOBS)
            job = JobAnswer.model_validate_json(answer.content).output()
            if job.status != "completed":
                return job
            answer = await self._http.get(f"{path}/result", params={"response_format": "verbose_json"})
            await _check(answer, missing=_NO_JOBS)
            result = VerboseAnswer.model_validate_json(answer.content)
            if writing.words and result.words is None:
                raise ToolError("This job was submitted without the times of words.")
            transcript = await _output(result, writing)
            return job.model_copy(update={"transcript": transcript})


def _fields(reading: Reading) -> list[tuple[str, str]]:
    fields = [*(("keywords", keyword) for keyword in reading.keywords), ("channels", reading.channels)]
    return fields if reading.track is None else [*fields, ("track", str(reading.track))]


def _multipart(
    fields: Iterable[tuple[str, str]], source: AsyncIterable[bytes]
) -> tuple[dict[str, str], AsyncGenerator[bytes]]:
    """The head and the body of a form with a file, which the package writes of files that are open here only."""
    boundary = secrets.token_hex(16)

    async def body() -> AsyncGenerator[bytes]:
        for name, value in fields:
            head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'
            yield f"{head}{value}\r\n".encode(errors="replace")
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="recording"\r\n\r\n'
        yield head.encode()
        async for piece in source:
            yield piece
        yield f"\r\n--{boundary}--\r\n".encode()

    return {"content-type": f"multipart/form-data; boundary={boundary}"}, body()


@asynccontextmanager
async def _answered(http: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Say in the assistant's words that the service cannot be reached, or said what nobody understands."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ToolError(f"{http.base_url} cannot be reached: {str(error) or type(error).__name__}") from error
    except ValidationError as error:
        raise ToolError(f"{http.base_url} is no service of this kind, or one of another version.") from error


async def _check(answer: httpx2.Response, *, missing: str | None = None) -> None:
    if not answer.is_success:
        raise _refusal(await answer.aread(), answer.status_code, missing=missing)


def _refusal(body: bytes, status: int, *, missing: str | None = None) -> ToolError:
    try:
        error = FailedAnswer.model_validate_json(body).error
    except ValidationError:
        return ToolError(missing if status == 404 and missing else f"The service answered with status {status}.")
    if status == 404 and missing is not None and error.code != "job_not_found":
        return ToolError(missing)
    return ToolError(f"{error.message}{_TOO_SLOW if error.code == 'processing_timeout' else ''} ({error.code})")


async def _output(answer: DoneAnswer | VerboseAnswer, writing: Writing) -> TranscriptOutput:
    words = [SpanOutput(**word.model_dump()) for word in answer.spoken_words]
    style = writing.format
    return TranscriptOutput(
        text=await asyncio.to_thread(_captions, words, answer.duration, style)
        if style in ("srt", "vtt")
        else answer.text,
        duration=answer.duration,
        segments=[SpanOutput(**one.model_dump()) for one in answer.spoken_segments] if style == "json" else None,
        words=words if writing.words else None,
        warnings=answer.warnings or [],
    )


def _captions(words: list[SpanOutput], duration_s: float, style: Format) -> str:
    # Imported here, for it imports numpy.
    from .written import captions_of, transcript_of  # noqa: PLC0415

    return captions_of(transcript_of(words, duration_s=duration_s), style)
