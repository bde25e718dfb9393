"""Somebody speaks: Chromium's microphone plays the bundled recording."""

import io
import json
import wave
from difflib import SequenceMatcher
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect
from websockets.sync.client import connect

from tests.browser.conftest import Launch, Open, serving
from tests.browser.lines import Line
from tests.browser.pages import button, heard_at_least, plain, playing, ready, save, text, until, words
from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def finals(shared_server: SharedServer) -> list[str]:
    """What `/ws` gives for the recording itself."""
    _, service = shared_server()
    with connect(f"{service.replace('http', 'ws')}/ws", proxy=None) as socket:
        with wave.open(str(SAMPLE)) as sample:
            socket.send(sample.readframes(sample.getnframes()))
        socket.send('{"type":"close"}')
        messages = [json.loads(message) for message in socket]
    return plain(" ".join(message["text"] for message in messages if message["type"] == "final"))


def likeness(said: str, expected: list[str]) -> float:
    return SequenceMatcher(None, plain(said), expected, autojunk=False).ratio()


def test_captions_come_while_somebody_speaks_and_stay(service: str, open_page: Open, finals: list[str]) -> None:
    page = ready(open_page(service))
    button(page, "Speak").click()
    expect(page.get_by_text("Listening", exact=True)).to_be_visible()
    heard_at_least(page, 5)
    colours = [page.locator(part).evaluate("one => getComputedStyle(one).color") for part in ("#stable", "#unsettled")]
    assert colours[0] != colours[1], "a draft looks like what stays"
    assert page.locator("#draft").get_attribute("aria-hidden") == "true"
    heard_at_least(page, 20)
    until(page, "document.getElementById('elapsed').textContent >= '0:15'")
    button(page, "Stop").click()
    expect(button(page, "Continue speaking")).to_be_focused()
    expect(page.locator("#saves")).to_be_visible()
    # The recording goes through the audio device, at its rate, and begins somewhere.
    assert likeness(text(page), finals) > 0.85
    # What is read out are finals, and nothing else.
    assert plain(" ".join(page.get_by_role("log").locator("p").all_inner_texts())) == plain(text(page))


def test_what_was_said_can_be_played_word_by_word_and_saved(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    button(page, "Speak").click()
    heard_at_least(page, 15)
    button(page, "Stop").click()
    expect(page.locator("#player")).to_be_visible()
    words(page).nth(5).click()
    until(page, "document.querySelector('.playing[data-at]')?.dataset.at >= 7")
    button(page, "Pause").click()
    words(page).nth(2).click()
    button(page, "Pause").click()
    assert playing(page) >= 2
    name, sound = save(page, "wav")
    assert name == "speech.wav"
    with wave.open(io.BytesIO(sound)) as saved:
        heard_s = saved.getnframes() / saved.getframerate()
        assert (saved.getnchannels(), saved.getsampwidth()) == (1, 2)
    # The words lie where the sound has them: the service reads the same from it.
    answer = httpx2.post(f"{service}/transcribe", files={"file": sound}, trust_env=False, timeout=180).json()
    assert likeness(text(page), plain(answer["text"])) > 0.85
    timestamps = json.loads(save(page, "json")[1])["timestamps"]
    assert " ".join(word["text"] for word in timestamps["words"]) == text(page)
    assert timestamps["words"][-1]["end"] <= heard_s + 0.1


def test_going_on_adds_to_what_is_there(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    button(page, "Speak").click()
    heard_at_least(page, 8)
    button(page, "Stop").click()
    expect(button(page, "Play")).to_be_visible()
    first = text(page)
    button(page, "Continue speaking").click()
    heard_at_least(page, 8)
    button(page, "Stop").click()
    expect(button(page, "Play")).to_be_visible()
    both = text(page)
    assert both.startswith(first)
    assert likeness(both, plain(first) * 2) > 0.7
    starts = [word["start"] for word in json.loads(save(page, "json")[1])["timestamps"]["words"]]
    assert starts == sorted(starts)


def test_a_service_that_goes_away_says_so_and_what_was_said_stays(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path) as (server, url):
        page = ready(open_page(url))
        button(page, "Speak").click()
        heard_at_least(page, 10)
        assert server.stop() == 0
        expect(page.get_by_role("alert")).to_contain_text("The microphone is still on: what you say is kept")
        button(page, "Stop").click()
        expect(page.get_by_role("alert")).to_contain_text("The text so far is kept.")
        assert len(plain(text(page))) >= 8
        expect(page.locator("#draft")).to_be_hidden()
        expect(page.locator("#service")).to_contain_text("cannot be reached")
        expect(page.locator("#saves")).to_be_visible()
        expect(page.locator("#player")).to_be_visible()
        assert save(page, "txt")[1].decode().split() == text(page).split()


def test_the_microphone_goes_on_while_the_connection_is_broken(
    service: str, open_page: Open, finals: list[str]
) -> None:
    with Line(service) as line:
        page = ready(open_page(line.url))
        button(page, "Speak").click()
        heard_at_least(page, 12)
        line.cut()
        expect(page.get_by_role("alert")).to_contain_text("The microphone is still on: what you say is kept")
        expect(page.get_by_text("Listening, and connecting again")).to_be_visible()
        expect(page.locator("#service")).to_contain_text("cannot be reached")
        expect(button(page, "Stop")).to_be_enabled()
        page.wait_for_timeout(3000)
        line.mend()
        expect(page.locator("#service")).to_have_text("Ready")
        expect(page.get_by_role("alert")).to_have_text("")
        expect(page.get_by_text("Listening", exact=True)).to_be_visible()
        until(page, "document.getElementById('elapsed').textContent >= '0:15'")
        button(page, "Stop").click()
        expect(button(page, "Play")).to_be_visible()
        # What was said before, while and after it was broken.
        assert likeness(text(page), finals) > 0.75


def test_what_was_not_transcribed_before_the_stop_can_be_afterwards(service: str, open_page: Open) -> None:
    with Line(service) as line:
        page = ready(open_page(line.url))
        button(page, "Speak").click()
        heard_at_least(page, 12)
        line.cut()
        expect(page.get_by_text("Listening, and connecting again")).to_be_visible()
        button(page, "Stop").click()
        expect(page.get_by_role("alert")).to_contain_text("will be transcribed when you reconnect")
        line.mend()
        expect(page.locator("#service")).to_have_text("Ready")
        button(page, "Reconnect").click()
        # The microphone begins anew with the recording: had the first words been lost, they would stand there once.
        until(page, "document.getElementById('transcript').textContent.split('early part').length > 2")
        button(page, "Stop").click()
        expect(button(page, "Play")).to_be_visible()


def test_a_service_that_is_gone_is_not_taken_for_a_microphone_that_fails(service: str, open_page: Open) -> None:
    with Line(service) as line:
        page = ready(open_page(line.url))
        line.cut()
        button(page, "Speak").click()
        expect(page.get_by_role("alert")).to_have_text("The service cannot be reached.")
        line.mend()
        expect(page.locator("#service")).to_have_text("Ready")


def test_the_question_of_the_browser_can_be_waited_for_or_not(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    button(page, "Speak").click()
    expect(page.get_by_text("Allow the microphone where the browser asks for it")).to_be_visible()
    button(page, "Cancel").click()
    expect(button(page, "Speak")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_text("")
    expect(page.locator("#choice")).to_be_visible()


def test_a_question_that_nobody_answers_is_given_up(service: str, open_page: Open) -> None:
    page = open_page("about:blank")
    page.add_init_script("AbortSignal.timeout = () => AbortSignal.abort(new DOMException('', 'TimeoutError'))")
    page.goto(service)
    button(ready(page), "Speak").click()
    expect(page.get_by_role("alert")).to_contain_text("The browser has not opened the microphone for a minute.")
    expect(button(page, "Speak")).to_be_enabled()


def test_without_a_free_place_it_says_when_to_come_back(tmp_path: Path, open_page: Open) -> None:
    with serving(tmp_path, MAX_STREAMS="1") as (_, url):
        page = ready(open_page(url))
        with connect(f"{url.replace('http', 'ws')}/ws", proxy=None) as other:
            other.send(bytes(3200))
            other.recv()
            button(page, "Speak").click()
            expect(page.get_by_role("alert")).to_contain_text("Try again in")
        expect(button(page, "Reconnect").or_(page.locator("#again"))).to_be_visible()


def test_a_microphone_that_is_refused_is_told_so(service: str, open_page: Open) -> None:
    page = ready(open_page(service, microphone=False))
    button(page, "Speak").click()
    expect(page.get_by_role("alert")).to_contain_text("Microphone access was denied.")
    expect(button(page, "Speak")).to_be_focused()


def test_that_there_is_no_microphone_is_told_so(service: str, open_page: Open, launch: Launch) -> None:
    page = ready(open_page(service, browser=launch("--no-sandbox")))
    button(page, "Speak").click()
    expect(page.get_by_role("alert")).to_contain_text("No microphone was found.")


def test_over_plain_http_it_says_why_there_is_no_microphone(shared_server: SharedServer, open_page: Open) -> None:
    _, service = shared_server(ALLOWED_HOSTS="elsewhere.test")
    page = ready(open_page(service.replace("127.0.0.1", "elsewhere.test"), microphone=False))
    expect(button(page, "Speak")).to_be_disabled()
    expect(button(page, "Speak")).to_have_accessible_description(
        "Browsers allow the microphone only over HTTPS or on localhost. To speak, open this page over HTTPS; "
        "recordings work here, too."
    )
    expect(page.locator("#file")).to_be_enabled()
