"""`POST /asr` and `POST /detect-language`: a recording in; its text, its captions or its language out."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Query, Request, UploadFile
from starlette.responses import Response

from ....application.ports.speech_model import ModelDescription, SpeechModel
from ....application.transcribe_file import TranscribeFile
from ....domain.errors import InvalidRequestError
from ....domain.languages import name_of
from ..guards.error_schemas import ProblemBody
from ..guards.request_context import note, request_context
from ..openai.request import language_of
from ..recordings.form_fields import UNSAID
from ..recordings.uploads import IGNORED_HEADER, documented_errors, pieces_of, while_connected
from .response import Output, answer
from .schemas import AsrBody, DetectedLanguageBody

_Recording = Annotated[UploadFile, File(description="a recording in any usual format; the content decides which")]
_Encode = Annotated[
    bool, Query(description="`false`: the file is raw audio, 16 kHz, 16 bits, mono, unless it is a WAVE file")
]


def router(transcribe_file: TranscribeFile, *, model: SpeechModel) -> APIRouter:
    """The routes of whisper-asr-webservice."""

    async def asr(
        request: Request,
        audio_file: _Recording,
        *,
        encode: _Encode = True,
        task: Annotated[
            Literal["transcribe", "translate"], Query(description="`translate` takes English speech only")
        ] = "transcribe",
        language: Annotated[
            str, Query(description="ISO 639-1 code, locale or English name of a language that the model supports")
        ] = "",
        initial_prompt: Annotated[str, Query(description="accepted without effect")] = "",
        vad_filter: Annotated[
            bool | None, UNSAID, Query(description="accepted without effect: the setting `VAD` decides")
        ] = None,
        word_timestamps: Annotated[bool, Query(description="add the times of words; only for `json`")] = False,
        output: Annotated[Output, Query(description="format of the answer")] = "txt",
    ) -> Response:
        """Transcribe one recording, as whisper-asr-webservice does.

        `x-ignored-parameters` names what was taken without effect, parameters that are not listed here among it.
        """
        description = model.describe()
        spoken = language_of(language, (), description)
        if task == "translate" and spoken != "en":
            raise InvalidRequestError(_NO_TRANSLATION, param="task")
        work = transcribe_file(_source(audio_file, encode=encode), caller=request_context(request).caller)
        transcript = await while_connected(request, work)
        note(request, audio_s=round(transcript.duration_s, 3))
        response = await asyncio.to_thread(answer, transcript, output, language=spoken, words=word_timestamps)
        response.headers["asr-engine"] = "parakeet"
        response.headers["content-disposition"] = (
            f'attachment; filename="{quote(audio_file.filename or "audio")}.{output}"'
        )
        without_effect = {
            # Nothing can make a model of several languages write a certain one.
            "language": language and len(description.languages) > 1,
            "initial_prompt": initial_prompt,
            "vad_filter": vad_filter is not None and vad_filter != (transcribe_file.detector is not None),
            "word_timestamps": word_timestamps and output != "json",
        }
        _name_ignored(response, request, {name for name, is_ignored in without_effect.items() if is_ignored})
        return response

    async def detect_language(
        request: Request, response: Response, audio_file: _Recording, *, encode: _Encode = True
    ) -> DetectedLanguageBody:
        """Tell the language of a recording: that of the model, if it has only one.

        A model of several languages does not say which it has heard; then this is an error.
        """
        del audio_file, encode
        code = _only_language(model.describe())
        _name_ignored(response, request, set())
        return DetectedLanguageBody(detected_language=name_of(code), language_code=code)

    routes = APIRouter(tags=["whisper-asr-webservice"])
    errors = documented_errors(ProblemBody, without={404})
    routes.add_api_route(
        "/asr",
        asr,
        methods=["POST"],
        summary="Transcribe a recording, as whisper-asr-webservice does",
        response_model=AsrBody,
        responses={200: _DOCUMENTED, **errors},
    )
    routes.add_api_route(
        "/detect-language",
        detect_language,
        methods=["POST"],
        summary="Language of a recording",
        response_model=DetectedLanguageBody,
        responses=errors,
    )
    return routes


_NO_TRANSLATION = (
    "This service does not translate. task=translate transcribes English speech, "
    "with a model that supports only English or with language=en."
)
_DOCUMENTED: dict[str, Any] = {
    "content": {"text/plain": {"schema": {"type": "string"}}},
    "headers": {
        IGNORED_HEADER: {
            "description": "parameters that were taken without effect, separated by commas",
            "schema": {"type": "string"},
        }
    },
}
_KNOWN = frozenset(
    {"encode", "task", "language", "initial_prompt", "vad_filter", "word_timestamps", "output", "audio_file"}
)
_UNKNOWN_SIZE = 0xFFFFFFFF
_RAW_HEADER = struct.pack(
    "<4sI4s4sIHHIIHH4sI", b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", _UNKNOWN_SIZE
)  # fmt: skip


async def _source(file: UploadFile, *, encode: bool) -> AsyncIterator[bytes]:
    """The recording; where it was encoded by the client, what says so, for raw samples do not."""
    first = not encode
    async for piece in pieces_of(file):
        if first and not piece.startswith(b"RIFF"):
            yield _RAW_HEADER
        first = False
        yield piece


def _only_language(model: ModelDescription) -> str:
    code, *others = model.languages
    if others:
        known = ", ".join(model.languages)
        raise InvalidRequestError(
            f"The model writes {known}, and does not tell which it hears: say the language.", param="language"
        )
    return code


def _name_ignored(response: Response, request: Request, known: set[str]) -> None:
    ignored = (*sorted(known), *(name for name in request.query_params if name not in _KNOWN))
    if ignored:
        # Names of the client's own go into a header: nothing else may.
        response.headers[IGNORED_HEADER] = ", ".join(quote(name) for name in dict.fromkeys(ignored))
