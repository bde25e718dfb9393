"""`POST /transcribe`: a recording in, its text out."""

from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile

from ...application.ports.speech_model import GREEDY, WIDEST_BEAM, Decoding, ModelDescription
from ...application.transcribe_file import TranscribeFile
from ...domain.errors import InvalidRequestError
from .keywords import decoding_of
from .record import note
from .schemas import ProblemBody, TranscriptionBody
from .uploads import documented_problems, pieces_of, while_connected


def router(*, transcribe_file: Callable[[], TranscribeFile]) -> APIRouter:
    """The route for recordings."""

    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File(description="a recording in any usual format; the content decides which")],
        *,
        include_timestamps: Annotated[bool, Form(description="also say when words and segments were said")] = False,
        should_chunk: Annotated[
            bool,
            Form(description="take long recordings, in chunks; without, longer than MAX_AUDIO_DURATION is refused"),
        ] = True,
        timestamp_level: Annotated[
            Literal["word", "char"], Form(description="`char` adds the time of each character")
        ] = "word",
        keywords: Annotated[
            tuple[str, ...],
            Form(description="words and phrases to favour, such as names: repeated, or a list with commas; up to 500"),
        ] = (),
        beam_size: Annotated[
            int,
            Form(
                ge=1,
                le=WIDEST_BEAM,
                description="readings kept at each step: more cost more time; with keywords, 1 leaves it to the service",
            ),
        ] = 1,
    ) -> TranscriptionBody:
        """Transcribe one recording; silence has an empty text.

        If you leave before the answer, the work stops.
        """
        decoding = decoding_of(keywords, beam_size=beam_size)
        use_case = transcribe_file()
        if decoding != GREEDY:
            _check(decoding, use_case.model.describe())
        work = use_case(pieces_of(file), chunked=should_chunk, decoding=decoding)
        transcript = await while_connected(request, work)
        note(request, audio_s=round(transcript.duration_s, 3))
        return TranscriptionBody.of(transcript, timestamps=timestamp_level if include_timestamps else "none")

    routes = APIRouter(tags=["transcription"])
    routes.add_api_route(
        "/transcribe",
        transcribe,
        methods=["POST"],
        summary="Transcribe a recording",
        response_model=TranscriptionBody,
        response_model_exclude_none=True,
        responses=documented_problems(ProblemBody, without=404),
    )
    return routes


def _check(decoding: Decoding, model: ModelDescription) -> None:
    if not model.searches:
        param = "keywords" if decoding.phrases else "beam_size"
        raise InvalidRequestError(f"{model.id} cannot search: it favours no phrases and keeps no beam.", param=param)
