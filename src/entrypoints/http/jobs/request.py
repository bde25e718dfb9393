"""What a request for a job asks for, as a form or as JSON: the fields of OpenAI's route, and a few of ours."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, TypeVar, cast

from fastapi import Form
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ....application.ports.speech_model import ModelDescription
from ....domain.captions import DEFAULT_STYLE, CaptionStyle
from ....domain.errors import InvalidRequestError
from ....domain.jobs import JobRequest
from ..openai.caption_form import CaptionForm
from ..openai.models import check_model
from ..openai.request import ResponseFormat, TranscriptionForm, TranscriptionRequest
from ..recordings.form_fields import Track

T = TypeVar("T")

_METADATA_BYTES = 16 << 10
_FORM_LIMITS = {"max_files": 1, "max_fields": 64, "max_part_size": 1 << 16}


@dataclass(frozen=True, slots=True)
class _Transcription(TranscriptionForm):
    model: Annotated[str, Form(description="the loaded model's name, or a usual alias; by default that model")] = ""


class JobFields(BaseModel):
    """What OpenAI's route does not have."""

    file_url: str | None = Field(default=None, max_length=2048, description="where to fetch the recording from")
    webhook_url: str | None = Field(
        default=None, max_length=2048, description="receives `job.completed` or `job.failed`, as a Standard Webhook"
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="your own, given back as it is; up to 16 kB")
    track: Track = None

    @field_validator("metadata", mode="before")
    @classmethod
    def _of_text(cls, value: object) -> object:
        return json.loads(value or "{}") if isinstance(value, str) else value

    @field_validator("metadata")
    @classmethod
    def _is_small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(value).encode()) > _METADATA_BYTES:
            raise ValueError(f"must have at most {_METADATA_BYTES} bytes")
        return value


_TRANSCRIPTION = TypeAdapter(_Transcription)
_CAPTIONS = TypeAdapter(CaptionForm)
_FIELDS = TypeAdapter(JobFields)
_SCHEMAS = tuple(adapter.json_schema() for adapter in (_TRANSCRIPTION, _CAPTIONS, _FIELDS))
_PROPERTIES: dict[str, Any] = {name: one for schema in _SCHEMAS for name, one in schema["properties"].items()}
_LISTS = {name for name, one in _PROPERTIES.items() if one.get("type") == "array"}


def request_schema() -> dict[str, Any]:
    """For the documentation: the two forms that a request may have."""
    properties = json.loads(json.dumps(_PROPERTIES).replace('"#/$defs/', '"#/components/schemas/'))
    without = {name: one for name, one in properties.items() if name not in ("file_url", "stream")}
    file = {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "description": "a recording in any format",
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["file"], "properties": {"file": file, **without}},
                },
                "application/json": {
                    "schema": {"type": "object", "required": ["file_url"], "properties": properties},
                    "example": {
                        "file_url": "https://storage.example.com/meeting.mp3",
                        "webhook_url": "https://app.example.com/hooks/transcripts",
                        "metadata": {"meeting": 42},
                    },
                },
            },
        }
    }


@dataclass(frozen=True, slots=True)
class ReceivedJob:
    """A request as it came.

    Attributes:
        request: What is asked for.
        file: The recording; ``None`` if it has a URL.
        ignored: Parameters that were given and have no effect.
    """

    request: JobRequest
    file: UploadFile | None
    ignored: tuple[str, ...]


async def receive_job(request: Request, model: ModelDescription, *, detects: bool) -> ReceivedJob:
    """Read a request for a job.

    Raises:
        InvalidRequestError: It cannot be read, or cannot be served.
        UnknownModelError: It names a model that is not there.
    """
    values, file = await _values(request)
    form = _read(_TRANSCRIPTION, values)
    captions = _read(_CAPTIONS, values).style()
    fields = _read(_FIELDS, values)
    if (file is None) == (fields.file_url is None):
        raise InvalidRequestError("Send a recording: either `file` in a form, or `file_url`.", param="file")
    if form.model:
        check_model(form.model, model)
    ask = replace(form, stream=False).read(model, detects=detects)
    unknown = tuple(
        re.sub(r"[^\w.\[\]-]", "?", name[:40], flags=re.ASCII) for name in values if name not in _PROPERTIES
    )
    job = JobRequest(
        beam_size=ask.decoding.beam_size,
        phrases=ask.decoding.phrases,
        detection=ask.detection,
        track=fields.track,
        separate=ask.separate,
        file_url=fields.file_url,
        webhook_url=fields.webhook_url,
        metadata=fields.metadata,
        presentation=_presentation(ask, captions),
    )
    return ReceivedJob(job, file, (*ask.ignored, *(("stream",) if form.stream else ()), *unknown[:10]))


def _presentation(ask: TranscriptionRequest, captions: CaptionStyle) -> dict[str, Any]:
    return {
        "response_format": ask.response_format.value,
        "language": ask.language,
        "words": ask.words,
        "segments": ask.segments,
        "logprobs": ask.logprobs,
        "captions": asdict(captions),
    }


_BY_DEFAULT = _presentation(TranscriptionRequest(ResponseFormat.JSON, language=None), DEFAULT_STYLE)


def presented(job: JobRequest, wanted: ResponseFormat | None) -> TranscriptionRequest:
    """How the result is written: as the job asked for it, or as `wanted`, with all that such a format can tell.

    Raises:
        InvalidRequestError: There is no such format here.
    """
    # A job of another entrypoint has none.
    form = {**_BY_DEFAULT, **job.presentation}
    if wanted is ResponseFormat.DIARIZED_JSON and not job.separate:
        message = "This service labels speakers by their channels only: diarized_json needs a job of channels=separate."
        raise InvalidRequestError(message, param="response_format")
    if wanted is not None and wanted.value != form["response_format"]:
        form |= {"response_format": wanted.value, "words": True, "segments": True, "logprobs": False}
    form["response_format"] = ResponseFormat(form["response_format"])
    form["captions"] = CaptionStyle(**form["captions"])
    return TranscriptionRequest(**form)


async def _values(request: Request) -> tuple[Mapping[str, Any], UploadFile | None]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body: object = await request.json()
        except ValueError as error:
            raise InvalidRequestError("The body is not JSON.") from error
        if not isinstance(body, dict):
            raise InvalidRequestError("The body must be a JSON object.")
        return cast("dict[str, Any]", body), None
    if kind != "multipart/form-data":
        raise InvalidRequestError("Send multipart/form-data with a `file`, or JSON with a `file_url`.")
    form = await request.form(**_FORM_LIMITS)
    file = form.get("file")
    if file is not None and not isinstance(file, UploadFile):
        raise InvalidRequestError("Expected a file, got text. With curl, -F file=@NAME uploads a file.", param="file")
    return _gathered((name, value) for name, value in form.multi_items() if isinstance(value, str)), file


def _gathered(items: Iterable[tuple[str, str]]) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for name, value in items:
        if name in _LISTS:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def _read(adapter: TypeAdapter[T], values: Mapping[str, Any]) -> T:
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"{param}: {first['msg']}", param=param) from error
