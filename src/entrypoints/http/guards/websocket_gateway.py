"""A live client's WebSocket: who may connect, and how the live loop reaches it."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from fastapi import WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from ....application.live_loop import LiveEnd, LiveLoop
from ....domain.errors import ServiceError
from .error_responses import ERROR_RESPONSES, refuse
from .errors import ForbiddenOriginError, UpgradeRequiredError
from .request_context import note

JsonObject: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a session ends on the wire: last messages, and the close.

    Attributes:
        code: Of the close.
        reason: Text in it, up to 123 bytes.
        messages: Sent before the close.
    """

    code: int
    reason: str = ""
    messages: Sequence[JsonObject] = ()


def farewell(end: LiveEnd | ServiceError) -> Farewell:
    """A close and nothing else."""
    match end:
        case LiveEnd.CLOSED:
            return Farewell(1000)
        case LiveEnd.DRAINED:
            return Farewell(1001)
        case ServiceError(code=code):
            return Farewell(ERROR_RESPONSES[code].close_code)


class UnreadError(Exception):
    """The client has left our messages unread for so long that it is dropped."""


@dataclass(frozen=True, slots=True)
class WebSocketChannel:
    """A WebSocket whose client has only so long to read."""

    websocket: WebSocket
    send_timeout_s: float

    async def receive(self) -> bytes | str:
        """The next message.

        Raises:
            WebSocketDisconnect: The client is gone.
        """
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        binary: bytes | None = message.get("bytes")
        return message["text"] if binary is None else binary

    async def send(self, message: JsonObject) -> None:
        """Send a message; waits while the client has many of them unread.

        Raises:
            WebSocketDisconnect: The client is gone.
            UnreadError: It has not read for too long.
        """
        await self._send({"type": "websocket.send", "text": json.dumps(message, ensure_ascii=False)})

    async def close(self, code: int, reason: str = "") -> None:
        """Close; raises what `send` does."""
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

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


@dataclass(frozen=True, slots=True)
class WebSocketGateway:
    """Lets live clients in, serves them, and closes their sockets.

    Attributes:
        allowed_origins: Web origins besides our own whose pages may connect; ``*`` is any.
        send_timeout_s: Longest time that a client may leave a message unread.
    """

    allowed_origins: Sequence[str]
    send_timeout_s: float

    async def serve(
        self,
        websocket: WebSocket,
        loop_over: Callable[[WebSocketChannel], LiveLoop[Any, JsonObject]],
        *,
        subprotocol: str,
        farewell: Callable[[LiveEnd | ServiceError], Farewell] = farewell,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Refuse the client, or serve it until one of both leaves.

        Args:
            websocket: What wants to come in.
            loop_over: Makes the session of a client that may come in.
            subprotocol: The one that is spoken; named to clients that offer it.
            farewell: Says how the session ends on the wire.
            headers: Of the answer to the handshake.
        """
        origin, host = websocket.headers.get("origin"), websocket.headers.get("host", "")
        if not is_allowed_origin(origin, host=host, allowed=self.allowed_origins):
            error = ForbiddenOriginError(f"Web pages of {origin} may not connect; see ALLOWED_ORIGINS.")
            await refuse(error, websocket.scope, websocket.receive, websocket.send)
            return
        await websocket.accept(
            subprotocol if subprotocol in websocket.scope["subprotocols"] else None,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        )
        channel = WebSocketChannel(websocket, self.send_timeout_s)
        loop = loop_over(channel)
        try:
            end = farewell(await loop.run())
            for message in end.messages:
                await channel.send(message)
            await channel.close(end.code, end.reason)
        except WebSocketDisconnect:
            note(websocket, client_left=True)
        except UnreadError:
            note(websocket, code="client_does_not_read")
        finally:
            note(websocket, audio_s=round(loop.audio_s, 3), utterances=loop.utterances)
            if isinstance(loop.end, ServiceError):
                note(websocket, code=loop.end.code)


async def refuse_plain_request() -> None:
    """The answer to a GET that is no handshake.

    Raises:
        UpgradeRequiredError: Always.
    """
    raise UpgradeRequiredError


def is_allowed_origin(origin: str | None, *, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page of `origin` may connect: those of our own host, and those that are `allowed`.

    Programs send no origin; only browsers must be kept from lending their user's network to any page.
    """
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.lower().partition("://")[2] == host.lower() != ""
