"""``python -m tests.probe LINE_PORT HTTP_PORT``: the line server and HTTP, side by side on one service."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn

from parakeet_service.application.service import Service
from parakeet_service.bootstrap.container import Container
from parakeet_service.bootstrap.lifecycle import serve_until_signalled
from parakeet_service.config.settings import Settings
from parakeet_service.entrypoints.http.app import create_app
from tests.probe.line_server import line_server


@asynccontextmanager
async def http(container: Container, port: int, service: Service) -> AsyncGenerator[None]:
    metrics = container.metrics()
    app = create_app(
        settings=container.settings(),
        service=service,
        metrics=metrics,
        exposition=metrics.exposition,
        on_fatal=lambda: None,
    )
    # The service's lifecycle is not the application's here, and signals are not uvicorn's.
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None))
    serving = asyncio.create_task(server._serve())  # pyright: ignore[reportPrivateUsage]
    yield
    server.should_exit = True
    await serving


async def main(line_port: int, http_port: int) -> None:
    container = Container(settings=Settings())
    await serve_until_signalled(
        container.service(), partial(line_server, line_port), partial(http, container, http_port)
    )


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
