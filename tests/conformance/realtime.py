"""Realtime sessions of the official client, GA and beta, and its own types held to every event that comes."""

import base64
import json
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import openai
from fastapi import FastAPI
from openai.types.beta.realtime.realtime_server_event import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import BaseModel
from websockets.exceptions import ConnectionClosed

from tests.conformance.calls import strictly
from tests.conformance.serving import make_app
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.http.openai.realtime.client import silence, voice

Event = dict[str, Any]
Step = Event | str
"""What a client says, or the type of the event that it waits for."""

COMMIT, CLEAR = {"type": "input_audio_buffer.commit"}, {"type": "input_audio_buffer.clear"}
COMPLETED = "conversation.item.input_audio_transcription.completed"
TRANSCRIPTION = {"intent": "transcription"}


def kinds_of(union: Any) -> dict[str, type[BaseModel]]:
    """The types of the client's events, by the events' names."""
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(union)[0])}


GA = kinds_of(RealtimeServerEvent)
BETA = kinds_of(BetaServerEvent)


@dataclass(frozen=True)
class Dialogue:
    """What was heard, and the code of the close if it came before the client had enough."""

    heard: list[Event]
    code: int | None

    @property
    def types(self) -> list[str]:
        """The types of the events in order, without deltas: when they come is a matter of time."""
        return [event["type"] for event in self.heard if not event["type"].endswith("delta")]

    def of(self, kind: str) -> list[Event]:
        """The events of that kind."""
        return [event for event in self.heard if event["type"].endswith(kind)]

    @property
    def transcripts(self) -> list[str]:
        """What was said, turn by turn."""
        return [event["transcript"] for event in self.of("completed")]


def update(**audio_input: Any) -> Event:
    """A change of the session."""
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio_input}}}


def appends(audio: bytes, *, rate_hz: int = 24000, piece_s: float = 0.05) -> list[Step]:
    """The audio as most clients send it: in small pieces."""
    step = round(piece_s * rate_hz) * 2
    pieces = [audio[at : at + step] for at in range(0, len(audio), step)]
    return [{"type": "input_audio_buffer.append", "audio": base64.b64encode(piece).decode()} for piece in pieces]


TURN: list[Step] = appends(voice(1.2) + silence(1.2))
"""Somebody speaks, and then does not."""


def talk(
    url: str,
    steps: Sequence[Step],
    *,
    key: str = "none",
    beta: bool = False,
    model: str = "",
    extra_headers: dict[str, str] | None = None,
) -> Dialogue:
    """Through the sync client, until all steps are done or the server closes; every event is held to its types."""
    client: Any = openai.OpenAI(base_url=f"{url}/v1", websocket_base_url=_ws(url), api_key=key)
    heard: list[Event] = []
    code: int | None = None
    realtime = client.beta.realtime if beta else client.realtime
    named = {"model": model} if model or beta else {}
    connect = realtime.connect(extra_query=TRANSCRIPTION, extra_headers=extra_headers or {}, **named)
    # The client uses its WebSocket library in a way that this one advises against.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning), client, connect as connection:
        course = _course(steps, heard, beta=beta)
        try:
            wanted = next(course)
            while True:
                wanted = course.send(connection.recv_bytes() if wanted is None else connection.send(wanted))
        except StopIteration:
            pass
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
    return Dialogue(heard, code)


async def talk_async(url: str, steps: Sequence[Step], *, key: str = "none") -> Dialogue:
    """The same through the async client."""
    client: Any = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
    heard: list[Event] = []
    async with client, client.realtime.connect(extra_query=TRANSCRIPTION) as connection:
        course = _course(steps, heard, beta=False)
        wanted = next(course)
        try:
            while True:
                got = await (connection.recv_bytes() if wanted is None else connection.send(wanted))
                wanted = course.send(got)
        except StopIteration:
            pass
    return Dialogue(heard, None)


def _course(steps: Sequence[Step], heard: list[Event], *, beta: bool) -> Generator[Event | None, bytes | None, None]:
    """What is to be sent next, or ``None`` where a message is to be received."""
    for step in ("session.created", *steps):
        if isinstance(step, str):
            while True:
                data = yield None
                assert data is not None
                heard.append(held(data, beta=beta))
                if heard[-1]["type"] == step:
                    break
        else:
            yield step


def held(data: bytes, *, beta: bool = False) -> Event:
    """The event, after it was held to the client's type."""
    event: Event = json.loads(data)
    if event["type"] == "transcription_session.updated":
        # The type demands a secret, of which its own documentation says that it is not sent over the socket.
        secret = {"client_secret": {"value": "", "expires_at": 0}}
        data = json.dumps(event | {"session": event["session"] | secret}).encode()
    strictly((BETA if beta else GA)[event["type"]], data)
    return event


def _ws(url: str) -> str:
    return url.replace("http", "ws", 1) + "/v1"


@dataclass(frozen=True)
class Situation:
    """A session that a page of the documentation shows."""

    what: str
    steps: Sequence[Step] = ()
    serve: Callable[[], FastAPI] | None = None
    beta: bool = False
    model: str = ""
    key: str = "none"


def _update(session: Event, *, kind: str = "session.update") -> list[Step]:
    return [{"type": kind, "session": session}, f"{kind}d"]


def _limited() -> FastAPI:
    return make_app(ScriptedModel(), audio_rate_limit="1/day")


_MANUAL = _update({"audio": {"input": {"turn_detection": None}}})
_IDLE = _update({"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 500}}}})
_SEMANTIC = _update({"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}})
_LOGPROBS = _update({"include": ["item.input_audio_transcription.logprobs"]})
_FLAT = _update({"input_audio_format": "pcm16"}, kind="transcription_session.update")

SITUATIONS = (
    Situation("somebody speaks, and stops", [*TURN, COMPLETED]),
    Situation("the same with `semantic_vad`", [*_SEMANTIC, *TURN, *appends(silence(1.5)), COMPLETED]),
    Situation("the same with the probabilities of tokens", [*_LOGPROBS, *TURN, COMPLETED]),
    Situation("the client commits (`turn_detection: null`)", [*_MANUAL, *TURN, COMMIT, COMPLETED]),
    Situation("it commits silence", [*_MANUAL, *appends(silence(1)), COMMIT, COMPLETED]),
    Situation("it commits nothing, and changes the session", [*_MANUAL, COMMIT, *_MANUAL]),
    Situation(
        "it clears, commits, and changes the session",
        [*_MANUAL, *appends(voice(0.2)), CLEAR, "input_audio_buffer.cleared", COMMIT, *_MANUAL],
    ),
    Situation("silence for longer than `idle_timeout_ms`", [*_IDLE, *appends(silence(1)), COMPLETED]),
    Situation("somebody speaks to the beta protocol", [*_FLAT, *TURN, COMPLETED], beta=True, model="whisper-1"),
    Situation(
        "an item is deleted", [{"type": "conversation.item.delete", "item_id": "item_1"}, "conversation.item.deleted"]
    ),
    *(
        Situation(f"`{kind}`, then somebody speaks", [{"type": kind}, "error", *TURN, COMPLETED])
        for kind in ("conversation.item.create", "conversation.item.retrieve", "response.create", "sing")
    ),
    Situation(
        "a setup that cannot be, then somebody speaks",
        [{"type": "session.update", "session": {"type": "realtime"}}, "error", *TURN, COMPLETED],
    ),
    Situation("audio that is not base64", [{"type": "input_audio_buffer.append", "audio": "?"}, "error"]),
    Situation("no such model", model="gpt-realtime"),
    Situation("the model is still loading", serve=lambda: make_app(ScriptedModel(), loaded=False)),
    Situation("every stream is taken", serve=lambda: make_app(ScriptedModel(max_streams=0))),
    # In one event: the client drops what it has not read yet when it speaks to a socket that is closed.
    Situation("the caller has had its share of audio", [*appends(voice(1.5), piece_s=2), "never"], serve=_limited),
)
