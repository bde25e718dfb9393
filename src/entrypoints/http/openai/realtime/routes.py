"""`/v1/realtime`: the socket, and the short-lived keys for it."""

import time
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, WebSocket
from pydantic import BaseModel, Field

from .....application.live_loop import LiveLoop
from .....application.ports.speech_model import SpeechModel
from .....application.service import Service
from ...guards.client_secrets import REALTIME, ClientSecret, ClientSecrets
from ...guards.error_schemas import OpenAIProblemBody
from ...guards.request_context import request_context
from ...guards.websocket_gateway import JsonObject, WebSocketChannel, WebSocketGateway, refuse_plain_request
from ...recordings.uploads import documented_errors
from .codec import RealtimeChannel, RealtimeCodec, Silence
from .events import new_id
from .session_config import SessionConfig

SUBPROTOCOL = "realtime"
_BETA = "realtime=v1"
_BETA_SUBPROTOCOL = "openai-beta.realtime-v1"


class ExpiresAfter(BaseModel):
    """How long a secret opens sessions."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=10, le=7200)] = 600


class ClientSecretRequest(BaseModel):
    """A secret, and how the sessions are set up that it opens: as `session.update` has it."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = {}


class ClientSecretBody(BaseModel):
    """The secret, and the session as it would be."""

    value: str
    expires_at: int
    session: dict[str, Any]


class FlatLifetime(BaseModel):
    """`client_secret` of the beta protocol's request."""

    expires_at: ExpiresAfter = ExpiresAfter()


class FlatSecretRequest(BaseModel, extra="allow"):
    """The same in the words of the beta protocol: the session's fields stand beside `client_secret`."""

    client_secret: FlatLifetime = FlatLifetime()


class FlatSecretBody(BaseModel):
    """`client_secret` of the beta protocol's answer."""

    value: str
    expires_at: int


class FlatSessionBody(BaseModel, extra="allow"):
    """The session as it would be, in the words of the beta protocol, and the secret."""

    client_secret: FlatSecretBody


def router(service: Service, *, gateway: WebSocketGateway, client_secrets: ClientSecrets) -> APIRouter:
    """The socket."""

    async def live(websocket: WebSocket) -> None:
        context = request_context(websocket)
        secret = client_secrets.find(websocket.scope)
        asked = [] if secret is None else [secret.session]
        if name := websocket.query_params.get("model"):
            asked.append({"audio": {"input": {"transcription": {"model": name}}}})

        def loop_over(channel: WebSocketChannel) -> LiveLoop[bytes | str | Silence, JsonObject]:
            codec = RealtimeCodec(
                service.model,
                service.stream_session.defaults,
                session_id=f"sess_{context.request_id}",
                asked=asked,
                flat=_speaks_beta(websocket),
            )
            return service.live_loop(
                RealtimeChannel(channel, codec),
                codec,
                caller=context.caller,
            )

        await gateway.serve(websocket, loop_over, subprotocol=SUBPROTOCOL)

    routes = APIRouter()
    routes.add_api_websocket_route(REALTIME, live)
    routes.add_api_route(REALTIME, refuse_plain_request, include_in_schema=False)
    return routes


def secrets_router(*, model: SpeechModel, client_secrets: ClientSecrets) -> APIRouter:
    """The routes that make secrets for the socket."""

    def secret_for(request: Request, setup: SessionConfig, lifetime: ExpiresAfter) -> FlatSecretBody:
        expires_at = int(time.time()) + lifetime.seconds
        asked = setup.asked.model_dump(mode="json", exclude_unset=True)
        value = client_secrets.make(ClientSecret(request_context(request).key, asked, expires_at))
        return FlatSecretBody(value=value, expires_at=expires_at)

    async def client_secret(request: Request, wanted: ClientSecretRequest) -> ClientSecretBody:
        """Make a key that a web page may have: it expires, and opens nothing but realtime sessions, in your name."""
        setup = SessionConfig.of(model.describe()).updated(wanted.session)
        secret = secret_for(request, setup, wanted.expires_after)
        session = setup.in_force(new_id("sess"), flat=False)
        return ClientSecretBody(value=secret.value, expires_at=secret.expires_at, session=session)

    async def transcription_session(request: Request, wanted: FlatSecretRequest) -> FlatSessionBody:
        """The same in the words of the beta protocol."""
        setup = SessionConfig.of(model.describe()).updated(wanted.model_extra or {})
        secret = secret_for(request, setup, wanted.client_secret.expires_at)
        return FlatSessionBody(client_secret=secret, **setup.in_force(new_id("sess"), flat=True))

    routes = APIRouter(prefix=REALTIME, tags=["OpenAI"])
    errors = documented_errors(OpenAIProblemBody, without={415, 422})
    other: dict[int | str, dict[str, Any]] = {"default": {"model": OpenAIProblemBody, "description": "Any other error"}}
    add_post = partial(routes.add_api_route, methods=["POST"], responses={**other, **errors})
    add_post("/client_secrets", client_secret, summary="A key for one realtime client")
    add_post("/transcription_sessions", transcription_session, summary="The same, as OpenAI's beta has it")
    return routes


def _speaks_beta(websocket: WebSocket) -> bool:
    return _BETA in websocket.headers.get("openai-beta", "") or _BETA_SUBPROTOCOL in websocket.scope["subprotocols"]
