"""Whether requests are traced: as OpenTelemetry's own environment variables say."""

import os
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from ..adapters.telemetry.opentelemetry import Tracing

_log = structlog.stdlib.get_logger(__name__)
_TRACES_WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def tracing_from_environment() -> "Tracing | None":
    """Traces, if the environment says where to send them; else nothing of OpenTelemetry's SDK is even imported."""
    wanted = [name for name in _TRACES_WANTED if os.environ.get(name)]
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if not wanted or off:
        return None
    try:
        from ..adapters.telemetry.opentelemetry import Tracing  # noqa: PLC0415 - an optional extra, a third of a second
    except ModuleNotFoundError as error:
        hint = "pip install 'parakeet-service[tracing]'"
        _log.warning("traces are disabled", because=f"{wanted[0]} is set, but {error.name} is missing", hint=hint)
        return None
    return Tracing.from_environment()
