"""`WS /ws`: live audio in our own protocol."""

from fastapi import APIRouter, WebSocket

from ....application.drain import Drain
from ....application.stream_session import StreamSession
from ..guards.allowance import allowance_of
from ..guards.request_context import request_context
from ..guards.websocket_gateway import WebSocketChannel, WebSocketGateway
from .schemas import FRAME_BYTES
from .session import Conversation

SUBPROTOCOL = "parakeet"


def router(
    stream_session: StreamSession, *, gateway: WebSocketGateway, drain: Drain, longest_idle_s: float
) -> APIRouter:
    """The route for live audio."""

    async def live(websocket: WebSocket) -> None:
        def talk_over(line: WebSocketChannel) -> Conversation:
            return Conversation(
                line,
                stream_session,
                drain,
                allowance_of(websocket),
                session_id=request_context(websocket).request_id,
                longest_idle_s=longest_idle_s,
            )

        await gateway.open(websocket, talk_over, subprotocol=SUBPROTOCOL, frame_bytes=FRAME_BYTES)

    routes = APIRouter()
    routes.add_api_websocket_route("/ws", live)
    return routes
