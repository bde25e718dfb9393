from collections.abc import Generator

import pytest

from parakeet_service.adapters.parakeet_mlx import blas
from tests.conformance.calls import Callers, callers
from tests.conformance.serving import Served, make_app, served
from tests.scripted_model import ScriptedModel

# Before any test imports MLX, which binds the BLAS.
blas.preload()


@pytest.fixture(scope="session")
def service() -> Generator[Served]:
    """The service on the scripted model, which any number of tests may ask."""
    with served(make_app(ScriptedModel())) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Served) -> Generator[Callers]:
    """The official client of it."""
    with callers(service.url) as made:
        yield made
