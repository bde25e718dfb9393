"""The real page, in a real Chromium, on the real service in a process of its own."""

import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE, Server, started, wait_until_ok

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A page that shows the reason of a failure is better than one that is gone; nothing waits this long on slow machines.
PATIENCE_MS = 180_000
OPTIONS = (
    "--no-sandbox",  # which does not work for root, as whom containers run
    "--use-fake-device-for-media-stream",
    f"--use-file-for-fake-audio-capture={SAMPLE}%noloop",
    # A name that is neither https nor localhost, and still is this machine.
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
)

# Told by Chromium of answers that a test asks for.
EXPECTED = ("Failed to load resource", "WebSocket connection to")

WATCH_POLICY = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  console.error("policy:", violatedDirective, blockedURI));
"""


def chromium() -> str:
    """Where it is; a test without it is skipped, or fails if REQUIRE_BROWSER=1."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    reason = f"there is no Chromium: none of {', '.join(NAMES)} is on PATH"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="package", autouse=True)
def _chromium() -> None:  # pyright: ignore[reportUnusedFunction]
    chromium()


# Per package, which leaves before other tests come: while Playwright runs, no test elsewhere could have an event loop.
@pytest.fixture(scope="package")
def playwright() -> Generator[Playwright]:
    with sync_playwright() as running:
        yield running


Launch = Callable[..., Browser]


@pytest.fixture(scope="package")
def launch(playwright: Playwright) -> Generator[Launch]:
    with ExitStack() as open_ones:

        def start(*options: str) -> Browser:
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(options))
            open_ones.callback(browser.close)
            return browser

        yield start


@pytest.fixture(scope="package")
def browser(launch: Launch) -> Browser:
    """Its microphone plays the bundled recording once, from when it is opened."""
    return launch(*OPTIONS)


@contextmanager
def serving(cwd: Path, **settings: str) -> Generator[tuple[Server, str]]:
    """The service with the embedded model, ready, and its address."""
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    with started(command, cwd=cwd, MODEL_ID="embedded", LOG_FORMAT="json", **settings) as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        yield server, url


@pytest.fixture
def service(shared_server: SharedServer) -> str:
    """The address of a service that any number of tests may ask."""
    _, url = shared_server()
    return url


@pytest.fixture
def guarded(shared_server: SharedServer) -> str:
    """The address of one that wants the key `s3cret`."""
    _, url = shared_server(API_KEYS="s3cret")
    return url


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Generator[Open]:
    """Opens an address with a microphone that is allowed, or not; nothing may break the page's policy, or be thrown."""
    complaints: list[str] = []
    with ExitStack() as contexts:

        def start(url: str, *, microphone: bool = True, browser: Browser = browser, **options: Any) -> Page:
            context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
            contexts.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            context.add_init_script(WATCH_POLICY)
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: (
                    complaints.append(said.text)
                    if said.type in {"error", "warning"} and not said.text.startswith(EXPECTED)
                    else None
                ),
            )
            page.goto(url)
            return page

        yield start
    assert complaints == []
