"""What all tiers share: property tests, servers, and which tests one worker must run."""

import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack

import hypothesis
import pytest

from tests.integration.processes import Server, started, wait_until_ok

# A busy machine must not fail them.
hypothesis.settings.register_profile(
    "untimed", max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("soak", hypothesis.settings.get_profile("untimed"), max_examples=5000)
hypothesis.settings.load_profile("untimed")

SharedServer = Callable[..., tuple[Server, str]]


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[SharedServer]:
    """Gives the running service with the embedded model under such settings, and its address; it is not to be stopped.

    There is one for each set of settings and each worker.
    """
    running: dict[frozenset[tuple[str, str]], tuple[Server, str]] = {}
    with ExitStack() as stack:

        def with_settings(**settings: str) -> tuple[Server, str]:
            variant = frozenset(settings.items())
            if variant not in running:
                command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
                cwd = tmp_path_factory.mktemp("shared")
                environment = {"MODEL_ID": "embedded", "LOG_FORMAT": "json", **settings}
                server = stack.enter_context(started(command, cwd=cwd, **environment))
                url = server.wait_for_line("Listening on ")
                wait_until_ok(f"{url}/readyz")
                running[variant] = server, url
            return running[variant]

        yield with_settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, one worker runs all tests of a module, unless they are in a group that is named."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
