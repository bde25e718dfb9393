"""What a request to OpenAI's audio routes asks for.

The names and values are those of the official client's types; so are the brackets, in which it sends what is nested
or repeated. Other clients leave the brackets out, or send lists with commas and objects as JSON: that is taken, too.

Source: https://github.com/openai/openai-python, 3.54.0, Apache-2.0: the requests as that client sends them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from fastapi import Form
from pydantic import BaseModel, Field, ValidationError

from ....application.ports.speech_model import GREEDY, Decoding, ModelDescription
from ....domain.captions import DEFAULT_STYLE, CaptionStyle
from ....domain.errors import InvalidRequestError
from ....domain.languages import code_of
from ....domain.vad import VadParams
from ..recordings.form_fields import UNSAID, Channels
from ..recordings.keywords import decoding_of, listed


class ResponseFormat(StrEnum):
    """How the transcript is written."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VERBOSE_JSON = "verbose_json"
    VTT = "vtt"
    DIARIZED_JSON = "diarized_json"


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """A request that can be served.

    Attributes:
        response_format: How the transcript is written; `ResponseFormat.DIARIZED_JSON` with separate channels only.
        language: ISO 639-1 code of the text, or ``None`` where nobody knows.
        task: What the client calls the work; the text is the same.
        words: Whether the times of words are wanted.
        segments: Whether segments are wanted.
        logprobs: Whether the probabilities of tokens are wanted.
        stream: Whether the text is wanted as it comes.
        decoding: How the model is to read.
        detection: When audio counts as speech, where the client has wishes.
        captions: How captions are cut.
        track: Which audio track is wanted; ``None`` for the one that is marked as default.
        separate: Whether each channel is wanted by itself.
        ignored: Parameters that were given and have no effect here.
    """

    response_format: ResponseFormat
    language: str | None
    task: Literal["transcribe", "translate"] = "transcribe"
    words: bool = False
    segments: bool = True
    logprobs: bool = False
    stream: bool = False
    decoding: Decoding = GREEDY
    detection: VadParams | None = None
    captions: CaptionStyle = DEFAULT_STYLE
    track: int | None = None
    separate: bool = False
    ignored: tuple[str, ...] = ()


Threshold = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]
Temperature = Annotated[float, Form(ge=0, le=1, description="accepted without effect: decoding is deterministic")]
Prompt = Annotated[str, Form(description="accepted without effect")]
_ModelName = Annotated[str, Form(description="the loaded model's name, or a usual alias")]


class ServerVad(BaseModel):
    """`chunking_strategy` as an object; unknown fields are ignored."""

    type: Literal["server_vad"]
    threshold: Threshold | None = None
    silence_duration_ms: Milliseconds | None = None
    prefix_padding_ms: Milliseconds | None = None

    def detection(self) -> VadParams:
        """The same, with our defaults for what was left out."""
        ours = VadParams()
        return VadParams(
            threshold=ours.threshold if self.threshold is None else self.threshold,
            prefix_padding_s=_seconds(self.prefix_padding_ms, ours.prefix_padding_s),
            silence_s=_seconds(self.silence_duration_ms, ours.silence_s),
        )


@dataclass(frozen=True, slots=True)
class TranscriptionForm:
    """The fields of ``/v1/audio/transcriptions`` beside the file, as they were sent."""

    model: _ModelName
    language: Annotated[
        str, Form(description="ISO 639-1 code, locale or English name of a language that the model supports")
    ] = ""
    languages: Annotated[
        tuple[str, ...],
        Form(alias="languages[]", description="languages that may occur; the model must support one of them"),
    ] = ()
    plain_languages: Annotated[tuple[str, ...], Form(alias="languages", description="the same")] = ()
    prompt: Prompt = ""
    keywords: Annotated[
        tuple[str, ...],
        Form(
            alias="keywords[]",
            description="words and phrases to favour; without effect if the model does not support it",
        ),
    ] = ()
    plain_keywords: Annotated[tuple[str, ...], Form(alias="keywords", description="the same")] = ()
    response_format: Annotated[ResponseFormat, Form()] = ResponseFormat.JSON
    temperature: Temperature = 0.0
    granularities: Annotated[
        tuple[str, ...],
        Form(alias="timestamp_granularities[]", description="`word`, `segment`; only for verbose_json"),
    ] = ()
    plain_granularities: Annotated[tuple[str, ...], Form(alias="timestamp_granularities", description="the same")] = ()
    include: Annotated[
        tuple[str, ...],
        Form(alias="include[]", description="`logprobs` adds the log probability of each token; only for json"),
    ] = ()
    plain_include: Annotated[tuple[str, ...], Form(alias="include", description="the same")] = ()
    chunking_strategy: Annotated[
        str,
        Form(
            description="`auto`, or an object as JSON; long recordings are cut at pauses in any case, "
            "and the numbers of `server_vad` say what a pause is"
        ),
    ] = ""
    vad_type: Annotated[str, Form(alias="chunking_strategy[type]", description="`server_vad`")] = ""
    vad_threshold: Annotated[Threshold | None, UNSAID, Form(alias="chunking_strategy[threshold]")] = None
    vad_silence_ms: Annotated[Milliseconds | None, UNSAID, Form(alias="chunking_strategy[silence_duration_ms]")] = None
    vad_padding_ms: Annotated[Milliseconds | None, UNSAID, Form(alias="chunking_strategy[prefix_padding_ms]")] = None
    speaker_names: Annotated[
        tuple[str, ...], Form(alias="known_speaker_names[]", description="accepted without effect")
    ] = ()
    speaker_references: Annotated[
        tuple[str, ...], Form(alias="known_speaker_references[]", description="accepted without effect")
    ] = ()
    stream: Annotated[
        bool,
        Form(description="send the text while the file is being transcribed, as server-sent events; only for json"),
    ] = False

    channels: Channels = "mix"

    def read(self, model: ModelDescription, *, detects: bool) -> TranscriptionRequest:
        """What is asked for, of `model` and of a service that `detects` speech or does not.

        Raises:
            InvalidRequestError: A value cannot be read, or cannot be served.
        """
        separate = self.channels == "separate"
        if self.response_format is ResponseFormat.DIARIZED_JSON and not separate:
            message = "This service labels speakers by their channels only: diarized_json needs channels=separate."
            raise InvalidRequestError(message, param="response_format")
        if self.stream and separate:
            raise InvalidRequestError("channels=separate cannot be streamed here.", param="stream")
        if self.stream and self.response_format is not ResponseFormat.JSON:
            message = f"stream=true needs response_format=json; {self.response_format} cannot be streamed."
            raise InvalidRequestError(message, param="stream")
        granularities = _choices(
            "timestamp_granularities", (*self.granularities, *self.plain_granularities), {"word", "segment"}
        )
        if granularities and self.response_format is not ResponseFormat.VERBOSE_JSON:
            message = "timestamp_granularities needs response_format=verbose_json."
            raise InvalidRequestError(message, param="timestamp_granularities")
        included = _choices("include", (*self.include, *self.plain_include), {"logprobs"})
        if included and self.response_format is not ResponseFormat.JSON:
            raise InvalidRequestError("include=logprobs needs response_format=json.", param="include")
        languages = listed((*self.languages, *self.plain_languages))
        favoured = decoding_of((*self.keywords, *self.plain_keywords))
        vad = self._chunking()
        return TranscriptionRequest(
            response_format=self.response_format,
            language=language_of(self.language, languages, model),
            words="word" in granularities,
            segments="segment" in granularities or not granularities,
            logprobs="logprobs" in included,
            stream=self.stream,
            separate=separate,
            decoding=favoured if model.searches else GREEDY,
            detection=vad.detection() if vad and detects else None,
            ignored=_given(
                # Nothing can make a model of several languages write a certain one.
                language=code_of(self.language) and len(model.languages) > 1,
                languages=languages and len(model.languages) > 1,
                prompt=self.prompt,
                keywords=favoured.phrases and not model.searches,
                temperature=self.temperature,
                chunking_strategy=vad and not detects,
                known_speaker_names=self.speaker_names,
                known_speaker_references=self.speaker_references,
            ),
        )

    def _chunking(self) -> ServerVad | None:
        """The numbers that are asked for; ``None`` leaves them to the service, which cuts in any case."""
        nested = {
            "type": self.vad_type or None,
            "threshold": self.vad_threshold,
            "silence_duration_ms": self.vad_silence_ms,
            "prefix_padding_ms": self.vad_padding_ms,
        }
        given = {name: value for name, value in nested.items() if value is not None}
        plain = self.chunking_strategy.strip()
        try:
            if given:
                return ServerVad.model_validate(given)
            if plain.startswith("{"):
                return ServerVad.model_validate_json(plain)
        except ValidationError as error:
            raise _bad_chunking(error) from error
        if plain not in {"", "auto", '"auto"', "null"}:
            message = f"chunking_strategy must be auto or an object of type server_vad, not {plain!r}."
            raise InvalidRequestError(message, param="chunking_strategy")
        return None


@dataclass(frozen=True, slots=True)
class TranslationForm:
    """The fields of ``/v1/audio/translations`` beside the file, as they were sent."""

    model: _ModelName
    prompt: Prompt = ""
    response_format: Annotated[Literal["json", "text", "srt", "verbose_json", "vtt"], Form()] = "json"
    temperature: Temperature = 0.0
    language: Annotated[
        str, Form(description="not OpenAI's: what is spoken, which must be English, where the model writes more")
    ] = ""

    def read(self, model: ModelDescription) -> TranscriptionRequest:
        """What is asked for: English text of English speech.

        Raises:
            InvalidRequestError: The speech is not English, or may be something else.
        """
        spoken = code_of(self.language) or (model.languages[0] if len(model.languages) == 1 else "")
        if spoken != "en" or "en" not in model.languages:
            message = (
                "This service does not translate. It transcribes English speech here, "
                "with a model that supports only English or with language=en."
            )
            raise InvalidRequestError(message, param="language")
        return TranscriptionRequest(
            response_format=ResponseFormat(self.response_format),
            language="en",
            task="translate",
            ignored=_given(prompt=self.prompt, temperature=self.temperature),
        )


def _choices(param: str, given: Iterable[str], known: set[str]) -> set[str]:
    asked = listed(given)
    for name in asked:
        if name not in known:
            raise InvalidRequestError(f"{param} must be one of {', '.join(sorted(known))}, not {name!r}.", param=param)
    return set(asked)


def language_of(language: str, languages: tuple[str, ...], model: ModelDescription) -> str | None:
    """The language of the text: what was asked for, or the only one that there is.

    Raises:
        InvalidRequestError: The model writes none of what was asked for.
    """
    known = model.languages
    message = f"The model does not support {{}}; it supports {', '.join(known)}."
    if code := code_of(language):
        if code not in known:
            raise InvalidRequestError(message.format(repr(language)), param="language")
        return code
    wanted = [code_of(language) for language in languages]
    # A list with `auto` in it asks for nothing in particular.
    if not all(wanted):
        wanted = []
    codes = [code for code in wanted if code in known]
    if wanted and not codes:
        raise InvalidRequestError(message.format(" or ".join(map(repr, languages))), param="languages")
    possible = codes or list(known)
    return possible[0] if len(possible) == 1 else None


def _bad_chunking(error: ValidationError) -> InvalidRequestError:
    first = error.errors()[0]
    param = "".join(("chunking_strategy", *(f"[{part}]" for part in first["loc"])))
    return InvalidRequestError(f"{param}: {first['msg']}", param=param)


def _seconds(milliseconds: int | None, otherwise_s: float) -> float:
    return otherwise_s if milliseconds is None else milliseconds / 1000


def _given(**parameters: object) -> tuple[str, ...]:
    return tuple(name for name, value in parameters.items() if value)
