"""`GET /metrics`: what was counted, for Prometheus."""

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

METRICS = "/metrics"


def router(*, exposition: Callable[[str], tuple[bytes, str]]) -> APIRouter:
    """The route; `exposition` gives the body and its media type for an ``Accept`` header."""

    async def metrics(request: Request) -> Response:
        """Requests, audio, speed, queue and process, in Prometheus's text format or in OpenMetrics."""
        body, media_type = exposition(request.headers.get("accept", ""))
        # In its headers, and not as `media_type`, to which Starlette would add a second charset.
        return Response(body, headers={"content-type": media_type})

    routes = APIRouter(tags=["health"])
    routes.add_api_route(METRICS, metrics, summary="Figures for Prometheus", response_class=Response)
    return routes
