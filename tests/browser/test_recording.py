"""A recording is dropped on the page."""

import json
import struct
import wave
from pathlib import Path

import httpx2
import numpy as np
import pytest
from playwright.sync_api import Dialog, expect

from tests.browser.conftest import Open, serving
from tests.browser.pages import button, drop, heard_at_least, playing, read_sample, ready, save, text, until, words
from tests.integration.processes import SAMPLE

pytestmark = pytest.mark.browser


def ask(url: str, path: str, **fields: str) -> httpx2.Response:
    return httpx2.post(f"{url}{path}", files={"file": SAMPLE.read_bytes()}, data=fields, trust_env=False, timeout=180)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes, so that it can be seen being read."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    with wave.open(str(SAMPLE)) as sample, wave.open(str(path), "wb") as long:
        long.setparams(sample.getparams())
        frames = sample.readframes(sample.getnframes())
        for _ in range(42):
            long.writeframes(frames)
    return path


def test_its_words_are_those_of_the_service(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    read_sample(page)
    assert text(page) == ask(service, "/transcribe").json()["text"]
    expect(page.get_by_role("heading", name="demo.wav")).to_be_visible()


def test_a_chosen_file_is_read_too(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    page.set_input_files("#file", SAMPLE)
    expect(page.locator("#saves")).to_be_visible()
    assert "early part of the century" in text(page)


def test_playing_marks_word_after_word_and_a_click_goes_to_one(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    read_sample(page)
    count = words(page).count()
    words(page).nth(count - 8).click()
    until(page, f"document.querySelector('.playing[data-at]')?.dataset.at >= {count - 8}")
    until(page, f"document.querySelector('.playing[data-at]')?.dataset.at >= {count - 6}")
    button(page, "Pause").click()
    expect(button(page, "Play")).to_be_visible()
    words(page).nth(4).click()
    button(page, "Pause").click()
    assert 4 <= playing(page) < count - 8


def test_what_is_saved_is_what_the_service_writes(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    read_sample(page)
    for ending in ("srt", "vtt"):
        name, data = save(page, ending)
        assert name == f"demo.{ending}"
        answer = ask(service, "/v1/audio/transcriptions", model="parakeet", response_format=ending)
        assert data.decode() == answer.text
    name, data = save(page, "json")
    assert (name, json.loads(data)) == ("demo.json", ask(service, "/transcribe", include_timestamps="true").json())
    name, data = save(page, "txt")
    assert name == "demo.txt"
    assert data.decode().split() == text(page).split()
    expect(page.locator("[data-save=wav]")).to_be_hidden()


def test_progress_is_shown_and_cancel_stops_the_work(tmp_path: Path, open_page: Open, long_recording: Path) -> None:
    with serving(tmp_path) as (server, url):
        page = ready(open_page(url))
        page.set_input_files("#file", long_recording)
        expect(button(page, "Cancel")).to_be_focused()
        expect(words(page).nth(60)).to_be_attached()
        until(page, "document.getElementById('progress').value > 0.05")
        expect(page.locator("#reading-label")).to_contain_text("so far")
        button(page, "Cancel").click()
        expect(page.get_by_role("alert")).to_have_text("Cancelled. The text so far is kept.")
        assert words(page).count() > 60
        expect(page.locator("#saves")).to_be_visible()
        assert server.stop() == 0
    logged = [json.loads(line) for line in server.lines if line.startswith("{")]
    (request,) = [line for line in logged if line.get("route") == "/transcribe"]
    assert request["code"] == "client_gone"


def test_several_are_read_one_after_the_other_and_none_is_lost(service: str, open_page: Open, tmp_path: Path) -> None:
    page = ready(open_page(service))
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    (tmp_path / "second.wav").write_bytes(SAMPLE.read_bytes())
    page.set_input_files("#file", [SAMPLE, tmp_path / "letter.txt", tmp_path / "second.wav"])
    listed = page.locator("#recordings button")
    expect(listed).to_have_text(["demo.wav: done", "letter.txt: not finished", "second.wav: done"])
    expect(page.get_by_role("heading", name="second.wav")).to_be_visible()
    read = text(page)
    assert read
    listed.nth(1).click()
    expect(words(page)).to_have_count(0)
    listed.nth(0).click()
    expect(page.get_by_role("heading", name="demo.wav")).to_be_visible()
    assert text(page) == read
    assert save(page, "txt")[0] == "demo.txt"
    drop(page, name="third.wav")
    expect(listed).to_have_count(4)
    expect(listed.nth(3)).to_have_text("third.wav: done")


def test_a_transcript_can_be_copied(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    read_sample(page)
    button(page, "Copy").click()
    expect(button(page, "Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").split() == text(page).split()


def test_a_transcript_is_not_thrown_away_without_a_question(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    read_sample(page)
    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    button(page, "Clear the page").click()
    assert asked == ["There is a transcript that has not been saved. Discard it?"]
    assert words(page).count() > 10
    save(page, "txt")
    button(page, "Clear the page").click()
    expect(words(page)).to_have_count(0)


def test_cancel_stays_in_view(service: str, open_page: Open, long_recording: Path) -> None:
    page = ready(open_page(service, viewport={"width": 360, "height": 500}))
    page.set_input_files("#file", long_recording)
    expect(words(page).nth(200)).to_be_attached()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(button(page, "Cancel")).to_be_in_viewport()
    button(page, "Cancel").click()


def test_what_is_no_recording_is_told_so(service: str, open_page: Open, tmp_path: Path) -> None:
    page = ready(open_page(service))
    (tmp_path / "letter").write_text("Dear Sir or Madam")
    drop(page, tmp_path / "letter", name="letter.txt")
    expect(page.get_by_role("alert")).to_contain_text("The recording cannot be decoded")
    expect(button(page, "Try again")).to_be_visible()
    # There are none that could be read all the same.
    expect(page.locator("#unplayable")).to_be_hidden()


def test_words_that_cannot_be_played_can_be_read(service: str, open_page: Open, tmp_path: Path) -> None:
    page = ready(open_page(service))
    with wave.open(str(SAMPLE)) as sample:
        frames = np.frombuffer(sample.readframes(sample.getnframes()), "<i2")
    sun = struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 16000, 1) + frames.astype(">i2").tobytes()
    (tmp_path / "demo.au").write_bytes(sun)
    drop(page, tmp_path / "demo.au", name="demo.au")
    expect(page.locator("#saves")).to_be_visible()
    expect(page.get_by_text("This browser cannot play the recording.")).to_be_visible()
    expect(page.locator("#help")).to_be_hidden()


def test_words_stay_where_they_are_when_all_has_been_read(service: str, open_page: Open, long_recording: Path) -> None:
    page = ready(open_page(service))
    page.set_input_files("#file", long_recording)
    expect(words(page).nth(60)).to_be_attached()
    top = "document.querySelector('[data-at]').getBoundingClientRect().top + scrollY"
    before = page.evaluate(top)
    expect(page.locator("#saves")).to_be_hidden()
    expect(page.locator("#saves")).to_be_visible()
    assert page.evaluate(top) == before


def test_the_focus_of_a_paragraph_is_seen_whole_on_a_phone(service: str, open_page: Open) -> None:
    page = ready(open_page(service, viewport={"width": 390, "height": 844}))
    read_sample(page)
    page.keyboard.press("Tab")
    page.locator(".time").first.focus()
    expect(page.locator("#by-key")).to_be_visible()
    room: float = page.locator(".time").first.evaluate(
        """(time) => {
          const { outlineWidth, outlineOffset } = getComputedStyle(time);
          return time.getBoundingClientRect().left - time.parentElement.getBoundingClientRect().left
            - parseFloat(outlineOffset) - parseFloat(outlineWidth);
        }"""
    )
    assert room >= 0


def test_one_that_is_dropped_while_somebody_speaks_is_not_read(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    button(page, "Speak").click()
    heard_at_least(page, 3)
    drop(page)
    expect(page.get_by_role("alert")).to_have_text("Stop the microphone first, then drop the recording again.")
    expect(page.get_by_role("heading", name="What you said")).to_be_visible()
    button(page, "Stop").click()
    expect(button(page, "Play")).to_be_visible()


def test_one_that_is_too_large_is_not_sent(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path, MAX_UPLOAD_BYTES=str(1 << 18)) as (server, url):
        page = ready(open_page(url))
        expect(page.locator("#model")).to_contain_text("embedded")
        drop(page)
        expect(page.get_by_role("alert")).to_have_text("demo.wav is too large. The limit is 0.25 MiB.")
        assert server.stop() == 0
    assert not [line for line in server.lines if "/transcribe" in line]


@pytest.mark.parametrize(
    ("status", "said"), [(413, "too large for a proxy"), (502, "cannot reach it"), (504, "did not wait for the answer")]
)
def test_what_a_proxy_answers_is_not_told_as_the_services(
    service: str, open_page: Open, status: int, said: str
) -> None:
    page = ready(open_page(service))
    page.route("**/transcribe", lambda route: route.fulfill(status=status, body="<html>nginx</html>"))
    drop(page)
    expect(page.get_by_role("alert")).to_contain_text(said)


def test_without_a_place_it_says_when_to_come_back(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path, RATE_LIMIT="2/minute") as (_, url):
        page = ready(open_page(url))
        expect(page.locator("#model")).to_contain_text("embedded")
        read_sample(page)
        drop(page)
        expect(page.get_by_role("alert")).to_contain_text("Rate limit exceeded: 2 requests per minute.")
        expect(page.get_by_role("alert")).to_contain_text("Try again in")
