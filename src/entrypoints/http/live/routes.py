"""`WS /ws`: live audio in our own protocol."""

from fastapi import APIRouter, WebSocket

from ....application.live_loop import LiveLoop
from ....application.service import Service
from ..guards.request_context import request_context
from ..guards.websocket_gateway import JsonObject, WebSocketChannel, WebSocketGateway
from .codec import LiveCodec

SUBPROTOCOL = "parakeet"


def router(service: Service, *, gateway: WebSocketGateway, longest_idle_s: float) -> APIRouter:
    """The route for live audio."""

    async def live(websocket: WebSocket) -> None:
        context = request_context(websocket)

        def loop_over(channel: WebSocketChannel) -> LiveLoop[bytes | str, JsonObject]:
            return service.live_loop(
                channel,
                LiveCodec(service.model, service.stream_session.defaults, session_id=context.request_id),
                caller=context.caller,
                longest_idle_s=longest_idle_s,
            )

        await gateway.serve(websocket, loop_over, subprotocol=SUBPROTOCOL)

    routes = APIRouter()
    routes.add_api_websocket_route("/ws", live)
    return routes
