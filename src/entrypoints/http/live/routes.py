"""`WS /ws`: live audio in our own protocol."""

from collections.abc import Callable

from fastapi import APIRouter, WebSocket

from ....application.stream_session import StreamSession
from ..guards.drain import Drain
from ..guards.rate_limits import allowance_of
from ..guards.request_context import request_id_of
from ..guards.websocket_gateway import WebSocketChannel, WebSocketGateway
from .schemas import FRAME_BYTES
from .session import Conversation

SUBPROTOCOL = "parakeet"


def router(
    *, stream_session: Callable[[], StreamSession], door: WebSocketGateway, drain: Drain, longest_idle_s: float
) -> APIRouter:
    """The route for live audio."""

    async def live(websocket: WebSocket) -> None:
        def talk_over(line: WebSocketChannel) -> Conversation:
            return Conversation(
                line,
                stream_session(),
                drain,
                allowance_of(websocket),
                session_id=request_id_of(websocket),
                longest_idle_s=longest_idle_s,
            )

        await door.open(websocket, talk_over, subprotocol=SUBPROTOCOL, frame_bytes=FRAME_BYTES)

    routes = APIRouter()
    routes.add_api_websocket_route("/ws", live)
    return routes
