"""What a client asks for in the query: the parameters that have an effect here, and the names of the others."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from ....application.ports.speech_model import GREEDY, Decoding, ModelDescription
from ....domain.audio import Encoding
from ....domain.channels import MOST_CHANNELS
from ....domain.errors import InvalidRequestError
from ..guards.errors import UnknownModelError
from ..openai.models import names_of
from ..openai.request import language_of

_FAMILIES = frozenset(
    {
        *("nova", "enhanced", "base", "whisper", "general", "phonecall", "meeting", "voicemail", "finance"),
        *("conversationalai", "video", "medical", "drivethru", "automotive"),
    }
)
"""First parts of the names of Deepgram's models: their clients have one of them built in, and it means ours."""
_REFUSED = {
    "redact": "This service does not redact: it would answer with what must not be read.",
    "callback": "This service does not call back: the answer is that of the request itself.",
}
"""Parameters whose silent loss would hurt: secrets would be told, or a client would wait for ever."""
_WITHOUT_EFFECT_WHERE = {"version": "latest", "mip_opt_out": None}
"""Parameters that ask for what is so anyway, and the value that does; ``None``: any."""
_MOST_NAMED = 20
_LONGEST_NAME = 40

RawEncoding: TypeAlias = Literal["linear16", "linear32", "mulaw", "alaw"]
ENCODINGS: dict[str, Encoding] = {
    "linear16": Encoding.PCM_S16LE,
    "linear32": Encoding.PCM_F32LE,
    "mulaw": Encoding.MULAW,
    "alaw": Encoding.ALAW,
}


class ListenQuery(BaseModel):
    """The parameters of both ways in."""

    model_config = ConfigDict(frozen=True)

    model: str = ""
    language: str = ""
    encoding: str | None = None
    sample_rate: Annotated[int | None, Field(ge=8000, le=192_000)] = None
    channels: Annotated[int, Field(ge=1, le=32)] = 1
    multichannel: bool = False
    keyterm: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    punctuate: bool | None = None
    smart_format: bool = False

    @classmethod
    def of(cls, params: QueryParams) -> Self:
        """Read them.

        Raises:
            InvalidRequestError: A value cannot be used, or a parameter is one that is refused.
        """
        for name, reason in _REFUSED.items():
            if any(value.lower() != "false" for value in params.getlist(name)):
                raise InvalidRequestError(f"{name}: {reason}", param=name)
        lists = [name for name, field in cls.model_fields.items() if field.default == ()]
        given = {name: params.getlist(name) if name in lists else params[name] for name in params if params[name]}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            param = str(first["loc"][0])
            raise InvalidRequestError(f"{param}: {first['msg']}", param=param) from error

    @property
    def punctuates(self) -> bool:
        """Whether the text is as the model writes it; only who asks for that gets it without case and punctuation."""
        return self.punctuate is not False or self.smart_format

    @property
    def raw_encoding(self) -> Encoding | None:
        """How raw samples are written; ``None`` where the bytes tell what they are."""
        return ENCODINGS.get(self.encoding or "")

    @property
    def rate_hz(self) -> int:
        """The rate of raw samples."""
        return self.sample_rate or (8000 if self.encoding in ("mulaw", "alaw") else 16_000)

    def language_code(self, model: ModelDescription) -> str | None:
        """ISO 639-1 code of the text, or ``None`` where nobody knows.

        Raises:
            InvalidRequestError: The model does not write it.
        """
        return language_of("" if self.language == "multi" else self.language, (), model)

    def check_model(self, model: ModelDescription) -> None:
        """Pass if the name means the loaded model: any of Deepgram's does.

        Raises:
            UnknownModelError: It does not.
        """
        family = self.model.partition("-")[0]
        if self.model and family not in _FAMILIES and self.model not in names_of(model):
            raise UnknownModelError(f"The model {self.model!r} is not available; {model.id!r} is.", param="model")

    def decoding(self, model: ModelDescription) -> Decoding:
        """Favours keyterms and keywords, if the model can.

        Raises:
            InvalidRequestError: They are too many or too long.
        """
        wanted = favouring((*self.keyterm, *(name for name, is_wanted in map(_keyword, self.keywords) if is_wanted)))
        return wanted if model.searches else GREEDY

    def ignored(self, params: QueryParams, model: ModelDescription) -> tuple[str, ...]:
        """Names of parameters that have no effect though they ask for one, as they may stand in a header."""
        known = type(self).model_fields.keys() | _REFUSED.keys()
        names = [
            name
            for name, value in params.multi_items()
            if name not in known and value.lower() != "false" and not _is_so_anyway(name, value)
        ]
        if not model.searches:
            names += [name for name in ("keyterm", "keywords") if getattr(self, name)]
        elif not all(is_wanted for _, is_wanted in map(_keyword, self.keywords)):
            names.append("keywords")
        if self.language and self.language != "multi" and len(model.languages) > 1:
            # Nothing can make a model of several languages write a certain one.
            names.append("language")
        return tuple(quote(name[:_LONGEST_NAME]) for name in dict.fromkeys(names))[:_MOST_NAMED]


def favouring(terms: Iterable[str]) -> Decoding:
    """How to read where these are favoured.

    Raises:
        InvalidRequestError: They are too many or too long; the parameter is called ``keyterm``.
    """
    phrases = tuple(dict.fromkeys(term.strip() for term in terms if term.strip()))
    try:
        return Decoding(phrases=phrases)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"keyterm: {error.message}", param="keyterm") from error


def _keyword(value: str) -> tuple[str, bool]:
    """The word of ``word:boost``, and whether it is to be favoured; a negative boost wants it less often."""
    word, colon, boost = value.rpartition(":")
    try:
        return (word, float(boost) >= 0) if colon else (value, True)
    except ValueError:
        return value, True


def _is_so_anyway(name: str, value: str) -> bool:
    return name in _WITHOUT_EFFECT_WHERE and _WITHOUT_EFFECT_WHERE[name] in (None, value)


class RecordingQuery(ListenQuery):
    """Those of recordings."""

    paragraphs: bool = False
    utterances: bool = False
    utt_split: Annotated[float, Field(gt=0, le=60)] = 0.8
    detect_language: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()

    @property
    def detects_language(self) -> bool:
        """Whether the answer is to tell the language."""
        return any(value.lower() != "false" for value in self.detect_language)


def _silence(value: object) -> object:
    """The pause of `endpointing` in milliseconds; ``None``: it is switched off."""
    return {"false": None, "true": _SHORTEST_SILENCE_MS}.get(str(value).lower(), value)


_SHORTEST_SILENCE_MS = 300
"""Clients ask for 10 to 25 ms, which Deepgram's own model makes more of: here it would end utterances between words."""
_USUAL_SILENCE_MS = 800
"""That of the service's other live protocols, for who has no wish: the model writes best what is parted there."""


class LiveQuery(ListenQuery):
    """Those of live audio."""

    encoding: RawEncoding | None = None  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    interim_results: bool = False
    endpointing: Annotated[int | None, Field(ge=0, le=60_000), BeforeValidator(_silence)] = _USUAL_SILENCE_MS
    utterance_end_ms: Annotated[int | None, Field(ge=1000, le=60_000)] = None
    vad_events: bool = False
    tag: tuple[str, ...] = ()

    @classmethod
    def of(cls, params: QueryParams) -> Self:
        """Read them; see `ListenQuery`."""
        query = super().of(params)
        if query.multichannel and query.channels > MOST_CHANNELS:
            message = f"channels: up to {MOST_CHANNELS} can be transcribed each by itself."
            raise InvalidRequestError(message, param="channels")
        return query

    @property
    def silence_s(self) -> float | None:
        """The pause that ends what is said; ``None``: the client wants no such thing."""
        return None if self.endpointing is None else max(self.endpointing, _SHORTEST_SILENCE_MS) / 1000
