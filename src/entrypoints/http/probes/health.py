"""Is it alive, is it ready, and what is it?"""

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ....application.drain import Drain
from ....application.ports.speech_model import ModelDescription, SpeechModel
from ....config.settings import Settings
from ....domain.errors import ServiceError
from .schemas import ConfigBody, HealthBody, JobsConfigBody, NotReadyBody, ReadyBody


def router(
    *, settings: Settings, model: SpeechModel, drain: Drain, jobs_owner: Callable[[Request], str] | None = None
) -> APIRouter:
    """Routes for probes and for people; `jobs_owner` tells whose jobs a caller has, ``None`` that there are no jobs."""

    async def healthz() -> HealthBody:
        """The process lives; says nothing about the model."""
        return HealthBody()

    async def readyz() -> ReadyBody | JSONResponse:
        """Whether requests are served: the model is loaded and warm, and the service is not going away."""
        try:
            drain.check_open()
            description = model.describe()
        except ServiceError as error:
            body = NotReadyBody.model_validate({**error.details, "reason": error.message, "code": error.code})
            return JSONResponse(body.model_dump(exclude_none=True), 503)
        return ReadyBody(workers_up=description.workers_up, workers_wanted=description.workers_wanted)

    async def config(request: Request) -> ConfigBody:
        """The effective settings, the loaded model, and whether there are jobs; no secrets."""
        jobs = None if jobs_owner is None else JobsConfigBody(owner=jobs_owner(request))
        return ConfigBody.of(settings, _description(model), jobs)

    routes = APIRouter(tags=["health"])
    routes.add_api_route("/healthz", healthz, summary="Alive?", response_model=HealthBody)
    # Load balancers ask with HEAD. The documentation has one way to ask.
    for path, probe in (("/healthz", healthz), ("/readyz", readyz)):
        routes.add_api_route(path, probe, methods=["HEAD"], response_model=None, include_in_schema=False)
    routes.add_api_route(
        "/readyz",
        readyz,
        summary="Ready?",
        response_model=ReadyBody,
        response_model_exclude_none=True,
        responses={503: {"model": NotReadyBody}},
    )
    routes.add_api_route("/config", config, summary="Settings and model", response_model=ConfigBody)
    return routes


def _description(model: SpeechModel) -> ModelDescription | None:
    try:
        return model.describe()
    except ServiceError:
        return None
