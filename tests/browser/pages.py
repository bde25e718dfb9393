"""What a person does on the page, and sees there."""

import base64
import re
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE_MS
from tests.integration.processes import SAMPLE

expect.set_options(timeout=PATIENCE_MS)

DROP = """([target, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const type of ["dragover", "drop"])
    document.querySelector(target).dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
}"""


def ready(page: Page) -> Page:
    expect(page.locator("#service")).to_have_text("Ready")
    return page


def drop(page: Page, recording: Path = SAMPLE, *, name: str = "demo.wav") -> None:
    page.evaluate(DROP, ["main", name, base64.b64encode(recording.read_bytes()).decode()])


def words(page: Page) -> Locator:
    return page.locator("#paragraphs [data-at]")


def text(page: Page) -> str:
    """The final words on the page; not as they are painted, for those out of sight are not."""
    return " ".join(words(page).all_text_contents())


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def read_sample(page: Page) -> None:
    """Drop the bundled recording, and wait until all of it has been read and can be played."""
    drop(page)
    expect(page.locator("#saves")).to_be_visible()
    expect(page.locator("#player")).to_be_visible()


def until(page: Page, condition: str) -> None:
    """Wait for a JavaScript expression to be true. Playwright's own way to wait for one is against the page's policy."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"{condition}: not in {PATIENCE_MS / 1000} s"
        page.wait_for_timeout(20)


def heard_at_least(page: Page, count: int) -> None:
    """Wait until so many words have been heard, drafts among them."""
    until(page, f"document.getElementById('draft').textContent.trim().split(/\\s+/).length >= {count}")


def plain(said: str) -> list[str]:
    """The words without case and marks."""
    return re.findall(r"[a-z']+", said.lower())


def playing(page: Page) -> int:
    """Which word is marked, or -1."""
    at: int = page.evaluate("Number(document.querySelector('.playing[data-at]')?.dataset.at ?? -1)")
    return at


def save(page: Page, ending: str) -> tuple[str, bytes]:
    """The name and the content of what is saved."""
    with page.expect_download() as saving:
        page.locator(f"[data-save={ending}]").click()
    return saving.value.suggested_filename, Path(saving.value.path()).read_bytes()
