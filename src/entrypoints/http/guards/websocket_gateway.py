"""A live client's WebSocket: who may connect, and the line that a conversation runs over."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ....application.ports.speech_model import SpeechModel
from ....application.stream_session import LiveOptions
from ....domain.errors import ForbiddenOriginError, FrameTooLargeError
from .error_responses import refuse
from .request_context import note

JsonObject: TypeAlias = dict[str, object]


class UnreadError(Exception):
    """The client has left our messages unread for so long that it is dropped."""


@dataclass(frozen=True, slots=True)
class WebSocketChannel:
    """A WebSocket whose client may send only so much at once, and has only so long to read."""

    websocket: WebSocket
    send_timeout_s: float
    frame_bytes: int

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            WebSocketDisconnect: The client is gone.
            FrameTooLargeError: It is larger than `frame_bytes`.
        """
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        binary: bytes | None = message.get("bytes")
        data: bytes | str = message["text"] if binary is None else binary
        if len(data) > self.frame_bytes:
            raise FrameTooLargeError(limit_bytes=self.frame_bytes)
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
            # Not `wait_for`: until Python 3.12 it takes no notice of a cancellation that comes as the message has gone.
            async with asyncio.timeout(self.send_timeout_s):
                await self.websocket.send(message)
        except TimeoutError as error:
            raise UnreadError from error


class Talk(Protocol):
    """A conversation with one client."""

    @property
    def facts(self) -> dict[str, float | str | None]:
        """For the log."""
        ...

    async def run(self, model: SpeechModel) -> None:
        """Talk until the end, and close the line."""
        ...


@dataclass(frozen=True, slots=True)
class WebSocketGateway:
    """Lets live clients in, and holds their conversations.

    Attributes:
        model: Gives the model.
        allowed_origins: Web origins besides our own whose pages may connect; ``*`` is any.
        send_timeout_s: Longest time that a client may leave a message unread.
    """

    model: Callable[[], SpeechModel]
    allowed_origins: Sequence[str]
    send_timeout_s: float

    async def open(
        self, websocket: WebSocket, talk_over: Callable[[WebSocketChannel], Talk], *, subprotocol: str, frame_bytes: int
    ) -> None:
        """Refuse the client or talk with it until one of both leaves.

        Args:
            websocket: What wants to come in.
            talk_over: Begins the conversation.
            subprotocol: The one that is spoken; named to clients that offer it.
            frame_bytes: Largest message that the client may send.
        """
        origin, host = websocket.headers.get("origin"), websocket.headers.get("host", "")
        if not is_allowed_origin(origin, host=host, allowed=self.allowed_origins):
            error = ForbiddenOriginError(f"Web pages of {origin} may not connect; see ALLOWED_ORIGINS.")
            await refuse(error, websocket.scope, websocket.receive, websocket.send)
            return
        await websocket.accept(subprotocol if subprotocol in websocket.scope["subprotocols"] else None)
        talk = talk_over(WebSocketChannel(websocket, self.send_timeout_s, frame_bytes))
        try:
            await talk.run(self.model())
        except WebSocketDisconnect:
            note(websocket, client_left=True)
        except UnreadError:
            note(websocket, code="client_does_not_read")
        finally:
            note(websocket, **talk.facts)


def is_allowed_origin(origin: str | None, *, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page of `origin` may connect: those of our own host, and those that are `allowed`.

    Programs send no origin; only browsers must be kept from lending their user's network to any page.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.lower().partition("://")[2] == host.lower() != ""


def bytes_per_s(options: LiveOptions) -> int:
    """Of raw audio, as the client sends it."""
    return options.encoding.sample_bytes * options.sample_rate_hz
