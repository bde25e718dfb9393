"""Long recordings are sent as jobs, which go on without the page and without the service."""

import json
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, serving
from tests.browser.lines import Line
from tests.browser.pages import button, drop, save, text, until, words
from tests.browser.pages import ready as loaded
from tests.browser.test_access import violations
from tests.integration.job_servers import recording
from tests.integration.processes import SAMPLE, Server

pytestmark = pytest.mark.browser

STORED = "JSON.parse(localStorage.getItem('parakeet-jobs') ?? '{}')"


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes, so that much can happen while it is read."""
    path = tmp_path_factory.mktemp("long") / "meeting.wav"
    path.write_bytes(recording(84))
    return path


@contextmanager
def keeping_jobs(cwd: Path, **settings: str) -> Generator[tuple[Server, str]]:
    # In small windows, one by one, so that reading takes a while.
    slowly = {"CHUNK_DURATION": "5", "CHUNK_OVERLAP": "1", "BATCH_SIZE": "1"}
    with serving(cwd, JOBS="on", DATA_DIR=str(cwd / "data"), **slowly, **settings) as running:
        yield running


def ready(page: Page) -> Page:
    """Wait until the page knows what the service is, too."""
    expect(loaded(page).locator("#model")).to_contain_text("embedded")
    return page


def known(page: Page) -> list[dict[str, str]]:
    """The jobs that the browser remembers, whoever's they are."""
    jobs: dict[str, list[dict[str, str]]] = page.evaluate(STORED)
    return [job for of_one in jobs.values() for job in of_one]


def send(page: Page, *files: Path) -> None:
    """Choose files, and wait until the service has the last one, of which words have come."""
    before = len(known(page))
    page.set_input_files("#file", files)
    until(page, f"Object.values({STORED}).flat().length === {before + len(files)}")


def jobs_of(url: str, key: str | None = None) -> list[dict[str, Any]]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    listed: list[dict[str, Any]] = httpx2.get(f"{url}/v1/jobs", headers=headers, trust_env=False).json()["data"]
    return listed


def route(url: str, file: Path) -> Any:
    """What the route of recordings gives for it."""
    with file.open("rb") as sent:
        form = {"include_timestamps": "true"}
        return httpx2.post(f"{url}/transcribe", files={"file": sent}, data=form, trust_env=False, timeout=600).json()


def test_a_job_is_found_again_after_a_reload_and_ends_as_the_route_does(
    tmp_path: Path, open_page: Open, long_recording: Path
) -> None:
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        send(page, long_recording)
        expect(words(page).nth(60)).to_be_attached()
        expect(page.get_by_text("You can close this page.")).to_be_visible()
        expect(page.locator("#reading-label")).to_contain_text("of 20:")
        until(page, "document.getElementById('progress').value > 0.01")
        # Nothing is asked: nothing would be lost.
        page.reload()
        ready(page)
        assert [job["status"] for job in jobs_of(url)] == ["running"]
        expect(page.get_by_role("heading", name="meeting.wav")).to_be_visible()
        expect(words(page).nth(60)).to_be_attached()
        expect(page.locator("#saves")).to_be_visible()
        expect(page.get_by_text("The recording was sent earlier, so this page cannot play it.")).to_be_visible()
        expect(page.locator("#player")).to_be_hidden()
        expect(page.get_by_text("You can close this page.")).to_be_hidden()
        told = route(url, long_recording)
        assert text(page) == told["text"]
        assert json.loads(save(page, "json")[1]) == told
        page.reload()
        expect(page.locator("#saves")).to_be_visible()
        assert text(page) == told["text"]


def test_short_recordings_stay_as_they_are(tmp_path: Path, open_page: Open) -> None:
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        drop(page)
        expect(page.locator("#saves")).to_be_visible()
        assert jobs_of(url) == known(page) == []
        expect(button(page, "Clear the page")).to_be_visible()


def test_the_page_goes_on_when_the_service_was_killed_and_is_back(
    tmp_path: Path, open_page: Open, long_recording: Path
) -> None:
    with keeping_jobs(tmp_path) as (first, url), Line(url) as line:
        page = ready(open_page(line.url))
        send(page, long_recording)
        expect(words(page).nth(60)).to_be_attached()
        heard = text(page).split()
        first.stop(signal.SIGKILL)
        expect(page.locator("#reading-label")).to_contain_text("cannot be reached")
        assert text(page).split()[: len(heard)] == heard
        with keeping_jobs(tmp_path) as (_, again):
            line.lead_to(again)
            expect(page.locator("#saves")).to_be_visible()
            expect(page.locator("#service")).to_have_text("Ready")
            assert text(page) == route(again, long_recording)["text"]
            expect(button(page, "Play")).to_be_visible()


def test_a_connection_that_is_cut_is_made_again(tmp_path: Path, open_page: Open, long_recording: Path) -> None:
    with keeping_jobs(tmp_path) as (_, url), Line(url) as line:
        page = ready(open_page(line.url))
        send(page, long_recording)
        for _ in range(3):
            expect(words(page).nth(20)).to_be_attached()
            line.cut()
            expect(page.locator("#reading-label")).to_contain_text("cannot be reached")
            line.mend()
            expect(page.locator("#reading-label")).to_contain_text("of 20:")
        expect(page.locator("#saves")).to_be_visible()
        assert text(page) == route(url, long_recording)["text"]


def test_many_jobs_are_sent_at_once_and_each_can_be_looked_at(
    tmp_path: Path, open_page: Open, long_recording: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(recording(50))
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        page.set_input_files("#file", [tmp_path / "talk.wav", SAMPLE, long_recording])
        listed = page.locator("#recordings button")
        # The short one is read on its way; then the page listens to the last one, which it shows.
        expect(listed).to_have_text(["talk.wav: sent", "demo.wav: done", "meeting.wav: transcribing"])
        expect(page.get_by_text("You can close this page.")).to_be_visible()
        assert [job["metadata"]["name"] for job in jobs_of(url)] == ["meeting.wav", "talk.wav"]
        listed.nth(1).click()
        expect(page.get_by_role("heading", name="demo.wav")).to_be_visible()
        expect(page.locator("#saves")).to_be_visible()
        expect(page.locator("#reading-label")).to_contain_text("meeting.wav: Transcribing")
        assert violations(page) == []
        listed.nth(0).click()
        expect(listed.nth(0)).to_have_text("talk.wav: done")
        assert violations(page) == []
        assert text(page) == route(url, tmp_path / "talk.wav")["text"]
        # Another short one does not wait for the long one.
        drop(page, name="memo.wav")
        expect(listed.nth(3)).to_have_text("memo.wav: done")
        page.reload()
        expect(listed).to_have_text(["talk.wav: done", "meeting.wav: done"])
        listed.nth(1).click()
        assert text(page) == route(url, long_recording)["text"]


def test_cancel_stops_the_job_and_leaves_nothing_on_the_service(
    tmp_path: Path, open_page: Open, long_recording: Path
) -> None:
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        send(page, long_recording)
        expect(words(page).nth(60)).to_be_attached()
        button(page, "Cancel").click()
        expect(page.get_by_role("alert")).to_have_text("Cancelled. The text so far is kept.")
        until(page, f"Object.keys({STORED}).length === 0")
        assert jobs_of(url) == []
        assert words(page).count() > 60
        expect(page.locator("#saves")).to_be_visible()


def test_what_is_deleted_or_cleared_goes_from_the_service(tmp_path: Path, open_page: Open) -> None:
    for name in ("one.wav", "two.wav", "three.wav"):
        (tmp_path / name).write_bytes(recording(45))
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        send(page, *(tmp_path / name for name in ("one.wav", "two.wav", "three.wav")))
        listed = page.locator("#recordings button")
        expect(listed).to_have_text(["one.wav: done", "two.wav: done", "three.wav: done"])
        listed.nth(0).click()
        page.once("dialog", lambda dialog: dialog.accept())
        button(page, "Delete this transcript from the service").click()
        expect(listed).to_have_text(["two.wav: done", "three.wav: done"])
        expect(page.get_by_role("heading", name="two.wav")).to_be_visible()
        assert len(jobs_of(url)) == len(known(page)) == 2
        # What could not be deleted stays on the page, too.
        page.route("**/v1/jobs/*", lambda route: route.abort())
        page.once("dialog", lambda dialog: dialog.accept())
        button(page, "Clear the page, and delete from the service").click()
        expect(page.get_by_role("alert")).to_contain_text(
            ".wav is still on the service. The service cannot be reached."
        )
        expect(listed).to_have_count(2)
        page.unroute("**/v1/jobs/*")
        page.once("dialog", lambda dialog: dialog.accept())
        button(page, "Clear the page, and delete from the service").click()
        expect(page.locator("#transcript")).to_be_hidden()
        assert jobs_of(url) == known(page) == []


def test_a_job_that_is_gone_is_told_in_a_sentence(tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "talk.wav").write_bytes(recording(45))
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        send(page, tmp_path / "talk.wav")
        expect(page.locator("#saves")).to_be_visible()
        (job,) = jobs_of(url)
        assert httpx2.delete(f"{url}/v1/jobs/{job['id']}", trust_env=False).status_code == 204
        page.reload()
        expect(page.get_by_role("alert")).to_have_text("The service no longer keeps talk.wav.")
        expect(page.locator("#transcript")).to_be_hidden()
        assert known(page) == []
        page.reload()
        ready(page)
        expect(page.get_by_role("alert")).to_be_empty()


def test_one_for_which_there_is_no_place_can_be_sent_later(
    tmp_path: Path, open_page: Open, long_recording: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(recording(45))
    with keeping_jobs(tmp_path, MAX_JOBS_PER_KEY="1") as (_, url):
        page = ready(open_page(url))
        page.set_input_files("#file", [long_recording, tmp_path / "talk.wav"])
        expect(page.get_by_role("alert")).to_contain_text("1 of your jobs have not ended; wait for one.")
        listed = page.locator("#recordings button")
        # The page hears of the one that was sent, all the same.
        expect(listed).to_have_text(["meeting.wav: done", "talk.wav: not finished"])
        button(page, "Try again").click()
        expect(listed).to_have_text(["meeting.wav: done", "talk.wav: done"])
        assert text(page) == route(url, tmp_path / "talk.wav")["text"]


def test_a_job_that_fails_says_why(tmp_path: Path, open_page: Open) -> None:
    # A browser cannot tell how long it is, and it is large.
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * (17 << 12))
    with keeping_jobs(tmp_path) as (_, url):
        page = ready(open_page(url))
        page.set_input_files("#file", tmp_path / "noise.bin")
        expect(page.get_by_role("alert")).to_contain_text("noise.bin: The recording cannot be decoded")
        expect(button(page, "Try again")).to_be_visible()
        assert known(page) == []


def test_another_key_sees_none_of_the_jobs(tmp_path: Path, open_page: Open, long_recording: Path) -> None:
    def use(page: Page, key: str) -> None:
        page.get_by_label("This service needs an API key").fill(key)
        button(page, "Use this key").click()
        expect(page.locator("#model")).to_contain_text("embedded")

    with keeping_jobs(tmp_path, API_KEYS="bob-s3cret,eve-s3cret") as (_, url):
        page = loaded(open_page(url))
        use(page, "bob-s3cret")
        send(page, long_recording)
        expect(words(page).nth(20)).to_be_attached()
        button(page, "Forget the key").click()
        use(page, "eve-s3cret")
        expect(page.locator("#transcript")).to_be_hidden()
        expect(page.get_by_role("alert")).to_be_empty()
        assert jobs_of(url, "eve-s3cret") == []
        # What the browser remembers is nobody's key.
        stored = page.evaluate("JSON.stringify(Object.entries(localStorage))")
        assert "s3cret" not in stored
        assert len(known(page)) == 1
        button(page, "Forget the key").click()
        use(page, "bob-s3cret")
        expect(page.get_by_role("heading", name="meeting.wav")).to_be_visible()
        expect(words(page).nth(20)).to_be_attached()


@pytest.mark.parametrize(
    "rubbish", ["{", "null", "7", '{"x": 1}', '{"OWNER": [null, 7, {"id": "../../config", "name": "x"}]}']
)
def test_what_somebody_else_has_stored_breaks_nothing(tmp_path: Path, open_page: Open, rubbish: str) -> None:
    with keeping_jobs(tmp_path) as (_, url):
        owner = httpx2.get(f"{url}/config", trust_env=False).json()["jobs"]["owner"]
        page = ready(open_page(url))
        page.evaluate("text => localStorage.setItem('parakeet-jobs', text)", rubbish.replace("OWNER", owner))
        page.reload()
        ready(page)
        expect(page.locator("#transcript")).to_be_hidden()
        drop(page)
        expect(page.locator("#saves")).to_be_visible()
