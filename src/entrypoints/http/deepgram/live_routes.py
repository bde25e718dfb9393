"""`WS /v1/listen`: live audio in Deepgram's protocol."""

from fastapi import APIRouter, WebSocket

from ....application.live_loop import LiveLoop
from ....application.service import Service
from ....domain.errors import ServiceError
from ..guards.error_responses import LISTEN, refuse
from ..guards.request_context import request_context
from ..guards.websocket_gateway import JsonObject, WebSocketChannel, WebSocketGateway, refuse_plain_request
from ..recordings.uploads import IGNORED_HEADER
from .codec import ListenCodec
from .query import LiveQuery
from .routes import REQUEST_ID_HEADER

LONGEST_IDLE_S = 10.0
"""Deepgram's own: its clients send KeepAlive every few seconds."""
_SCHEMES = ("token", "bearer")
"""Subprotocols that a browser offers before its key; the one that it offers is spoken."""


def router(service: Service, *, gateway: WebSocketGateway, longest_idle_s: float) -> APIRouter:
    """The route for live audio."""

    async def live(websocket: WebSocket) -> None:
        context = request_context(websocket)
        try:
            query, model = LiveQuery.of(websocket.query_params), service.model.describe()
            codec = ListenCodec(model, service.stream_session.defaults, query, request_id=context.request_id)
        except ServiceError as error:
            await refuse(error, websocket.scope, websocket.receive, websocket.send)
            return

        def loop_over(channel: WebSocketChannel) -> LiveLoop[bytes | str, JsonObject]:
            return service.live_loop(
                channel, codec, caller=context.caller, longest_idle_s=min(longest_idle_s, LONGEST_IDLE_S)
            )

        headers = {REQUEST_ID_HEADER: context.request_id}
        if ignored := query.ignored(websocket.query_params, model):
            headers[IGNORED_HEADER] = ", ".join(ignored)
        offered = [name for name in websocket.scope["subprotocols"] if name.lower() in _SCHEMES]
        await gateway.serve(
            websocket,
            loop_over,
            subprotocol=offered[0] if offered else _SCHEMES[0],
            farewell=codec.farewell,
            headers=headers,
        )

    routes = APIRouter()
    routes.add_api_websocket_route(LISTEN, live)
    routes.add_api_route(LISTEN, refuse_plain_request, include_in_schema=False)
    return routes
