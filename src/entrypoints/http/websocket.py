"""`WS /ws`: who may connect, and the line that a live conversation runs over."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ...application.ports.speech_model import SpeechModel
from ...application.stream_session import StreamSession
from ...domain.errors import ForbiddenOriginError, FrameTooLargeError
from .conversation import Conversation
from .drain import Drain
from .live_schemas import FRAME_BYTES, JsonObject
from .problems import refuse
from .record import note, request_id_of

SUBPROTOCOL = "parakeet"


class UnreadError(Exception):
    """The client has left our messages unread for so long that it is dropped."""


def router(
    *,
    stream_session: Callable[[], StreamSession],
    model: Callable[[], SpeechModel],
    allowed_origins: Sequence[str],
    drain: Drain,
    send_timeout_s: float,
) -> APIRouter:
    """The route for live audio."""

    async def live(websocket: WebSocket) -> None:
        origin, host = websocket.headers.get("origin"), websocket.headers.get("host", "")
        if not is_allowed_origin(origin, host=host, allowed=allowed_origins):
            error = ForbiddenOriginError(f"Pages of {origin} may not connect.")
            await refuse(error, websocket.scope, websocket.receive, websocket.send)
            return
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
        conversation = Conversation(
            Line(websocket, send_timeout_s), stream_session(), drain, session_id=request_id_of(websocket)
        )
        try:
            await conversation.run(model())
        except WebSocketDisconnect:
            note(websocket, client_left=True)
        except UnreadError:
            note(websocket, code="client_does_not_read")
        finally:
            note(websocket, **conversation.facts)

    routes = APIRouter()
    routes.add_api_websocket_route("/ws", live)
    return routes


def is_allowed_origin(origin: str | None, *, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page of `origin` may connect: those of our own host, and those that are `allowed`.

    Programs send no origin; only browsers must be kept from lending their user's network to any page.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.lower().partition("://")[2] == host.lower() != ""


@dataclass(frozen=True, slots=True)
class Line:
    """A WebSocket whose client may send only so much at once, and has only so long to read."""

    websocket: WebSocket
    send_timeout_s: float

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            WebSocketDisconnect: The client is gone.
            FrameTooLargeError: It is larger than `FRAME_BYTES`.
        """
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        binary: bytes | None = message.get("bytes")
        data: bytes | str = message["text"] if binary is None else binary
        if len(data) > FRAME_BYTES:
            raise FrameTooLargeError(limit_bytes=FRAME_BYTES)
        return data

    async def say(self, message: JsonObject) -> None:
        """Send a message; waits while the client has many of them unread.

        Raises:
            WebSocketDisconnect: The client is gone.
            UnreadError: It has not read for too long.
        """
        await self._send({"type": "websocket.send", "text": json.dumps(message, ensure_ascii=False)})

    async def close(self, code: int) -> None:
        """Close; raises what `say` does."""
        await self._send({"type": "websocket.close", "code": code, "reason": ""})

    async def _send(self, message: Message) -> None:
        if self.websocket.application_state is WebSocketState.DISCONNECTED:
            # An earlier message met a client that was gone, and somebody else was told.
            raise WebSocketDisconnect(code=1006)
        try:
            await asyncio.wait_for(self.websocket.send(message), self.send_timeout_s)
        except TimeoutError as error:
            raise UnreadError from error
