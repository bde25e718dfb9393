"""What can go wrong, and servers on which it does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import openai
from fastapi import FastAPI
from structlog.testing import capture_logs

from parakeet_service.domain.errors import DecoderUnavailableError, InferenceError, OverloadedError, ShuttingDownError
from tests.conformance.calls import SPEECH, Callers, Parameters, callers, wav
from tests.conformance.serving import make_app, served
from tests.fakes import FailingModel, GatedModel, SearchingModel
from tests.scripted_model import ScriptedModel


def _failing(error: Exception) -> Callable[[], FastAPI]:
    return lambda: make_app(FailingModel(error))


def _sound() -> FastAPI:
    return make_app(ScriptedModel())


@dataclass(frozen=True)
class Situation:
    """A call that must fail, on a server of its own."""

    what: str
    parameters: Parameters = field(default_factory=dict[str, object])
    serve: Callable[[], FastAPI] = _sound
    call: Literal["transcriptions", "translations", "retrieve", "nowhere", "wrong method"] = "transcriptions"


SITUATIONS = (
    Situation("no such model", {"model": "tts-1"}),
    Situation("no such model, asked for alone", call="retrieve"),
    Situation("no such path below /v1", call="nowhere"),
    Situation("no such method", call="wrong method"),
    Situation("no model given", {"model": ""}),
    Situation("an empty file", {"file": ("speech.wav", b"")}),
    Situation("a file without a sample", {"file": ("speech.wav", wav(0))}),
    Situation("not audio at all", {"file": ("speech.mp3", b"<html>no</html>" * 100)}),
    Situation("a truncated file", {"file": ("speech.wav", SPEECH[:20])}),
    Situation("not audio, streamed", {"file": ("speech.mp3", b"<html>no</html>" * 100), "stream": True}),
    Situation("a language that the model does not write", {"language": "fr"}),
    Situation("no language that the model writes", {"languages": ["fr", "de"]}),
    Situation("temperature=2", {"temperature": 2}),
    Situation("chunking_strategy with threshold=3", {"chunking_strategy": {"type": "server_vad", "threshold": 3}}),
    Situation("a translation from unknown languages", serve=lambda: make_app(SearchingModel()), call="translations"),
    Situation("no key, or a wrong one", serve=lambda: make_app(ScriptedModel(), api_keys="s3cret")),
    Situation("too many bytes", serve=lambda: make_app(ScriptedModel(), max_upload_bytes=10_000)),
    Situation("too many seconds", serve=lambda: make_app(ScriptedModel(), limits={"longest_s": 2})),
    Situation("the model is still loading", serve=lambda: make_app(ScriptedModel(), loaded=False)),
    Situation("the queue is full", serve=_failing(OverloadedError("Full.", retry_after_s=0.2))),
    Situation("the service is going away", serve=_failing(ShuttingDownError("Bye.", retry_after_s=0.2))),
    Situation("the work takes too long", serve=lambda: make_app(GatedModel(), limits={"timeout_s": 0.05})),
    Situation(
        "the work takes too long, streamed",
        {"stream": True},
        lambda: make_app(GatedModel(), limits={"timeout_s": 0.05}),
    ),
    Situation("the model fails", serve=_failing(InferenceError("It failed."))),
    Situation("the decoder is missing", serve=_failing(DecoderUnavailableError("There is no ffmpeg."))),
    Situation("a defect", serve=_failing(ZeroDivisionError("secret"))),
)


@dataclass(frozen=True)
class Outcome:
    """How the official client sees it; `requests` is how often a client that may retry once has asked."""

    status: int
    exception: str
    type: str | None
    code: str | None
    param: str | None
    retry_after: str | None
    should_retry: str | None
    requests: int
    has_id: bool
    says: str


@cache
def outcome(what: str) -> Outcome:
    """Bring about the situation of that name; once, for a client that tries again waits before."""
    situation = next(one for one in SITUATIONS if one.what == what)
    with capture_logs(), served(situation.serve()) as service, callers(service.url, retries=1) as client:
        try:
            _fail(situation, client)
        except openai.APIStatusError as error:
            answered = error.response.headers
            return Outcome(
                status=error.status_code,
                exception=type(error).__name__,
                type=error.type,
                code=error.code,
                param=error.param,
                retry_after=answered.get("retry-after"),
                should_retry=answered.get("x-should-retry"),
                requests=service.requests,
                has_id=bool(error.request_id) and error.request_id == answered["x-request-id"],
                says=error.message,
            )
    raise AssertionError(f"{situation.what}: nothing failed")


def _fail(situation: Situation, client: Callers) -> None:
    match situation.call:
        case "transcriptions":
            client.transcribe(situation.parameters)
        case "translations":
            client.translate(situation.parameters)
        case "retrieve":
            client.sync.models.retrieve("tts-1")
        case "nowhere":
            client.sync.get("/nowhere", cast_to=object)
        case "wrong method":
            client.sync.get("/audio/transcriptions", cast_to=object)
