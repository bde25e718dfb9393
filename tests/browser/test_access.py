"""Who may come in, and everyone who may: keys, a model that is still loading, keyboards, screen readers."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FileChooser, Page, Route, expect

from tests.browser.conftest import Open
from tests.browser.pages import button, heard_at_least, playing, read_sample, ready, text, until, words
from tests.integration.processes import SAMPLE

pytestmark = pytest.mark.browser

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA, contrast included, and against its own advice."""
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("rules => axe.run(document, { runOnly: rules })", RULES)
    assert found["passes"], "nothing was looked at"
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_is_found(service: str, open_page: Open, scheme: str) -> None:
    page = ready(open_page(service, color_scheme=scheme, reduced_motion="reduce"))
    expect(page.locator("#model")).to_contain_text("embedded")
    assert violations(page) == [], "at first"
    read_sample(page)
    words(page).nth(3).click()
    expect(button(page, "Pause")).to_be_visible()
    assert violations(page) == [], "while a recording is played"
    # It asks whether the transcript may go.
    page.once("dialog", lambda dialog: dialog.accept())
    button(page, "Clear the page").click()
    button(page, "Speak").click()
    heard_at_least(page, 8)
    assert violations(page) == [], "while somebody speaks"
    button(page, "Stop").click()
    expect(page.locator("#saves")).to_be_visible()
    assert violations(page) == [], "after that"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_is_found_where_something_is_wrong(guarded: str, open_page: Open, scheme: str) -> None:
    page = ready(open_page(guarded, microphone=False, color_scheme=scheme))
    expect(page.get_by_label("This service needs an API key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not valid.")
    assert violations(page) == []


def focused(page: Page) -> str:
    """The name of what has the focus."""
    name: str = page.evaluate(
        "(document.activeElement.ariaLabel ?? document.activeElement.labels?.[0]?.textContent"
        " ?? document.activeElement.textContent).trim()"
    )
    return name


def test_the_keyboard_is_enough(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    choosers: list[FileChooser] = []

    def keep(chooser: FileChooser) -> None:
        choosers.append(chooser)

    # Long before the key: asked for at the same time, Chromium may open a dialog of its own, which nobody sees.
    page.on("filechooser", keep)
    expect(page.locator("#model")).to_contain_text("embedded")
    page.keyboard.press("Tab")
    assert focused(page) == "Speak"
    page.keyboard.press("Tab")
    assert focused(page) == "Choose a recording"
    ring = page.locator("label.button").evaluate("one => getComputedStyle(one).outlineStyle")
    assert ring == "solid", "the focus cannot be seen"
    page.keyboard.press("Space")
    while not choosers:
        page.wait_for_timeout(20)
    choosers[0].set_files(SAMPLE)
    expect(page.locator("#saves")).to_be_visible()
    expect(page.locator("#player")).to_be_visible()

    # From where reading it has led us: the first paragraph's time.
    assert focused(page) == "Play from 0:00"
    expect(page.locator("#by-key")).to_be_visible()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('.playing[data-at]')?.dataset.at == 3")
    page.keyboard.press("ArrowLeft")
    until(page, "document.querySelector('.playing[data-at]')?.dataset.at == 2")
    page.keyboard.press("Enter")
    until(page, "!document.getElementById('sound').paused")
    page.keyboard.press("Tab")
    assert focused(page) == "Clear the page"
    page.keyboard.press("Tab")
    # The sound plays before the page hears of that.
    expect(button(page, "Pause")).to_be_focused()
    page.keyboard.press("Space")
    expect(button(page, "Play")).to_be_focused()
    page.keyboard.press("Tab")
    assert focused(page) == "Position"
    before = float(page.locator("#seek").input_value())
    page.keyboard.press("End")
    assert float(page.locator("#seek").input_value()) > before
    for name in (
        "Play",
        "Clear the page",
        "Play from 0:00",
        "JSON",
        "WebVTT captions",
        "SubRip captions",
        "plain text",
    ):
        page.keyboard.press("Shift+Tab")
        assert name in focused(page)
    with page.expect_download() as saving:
        page.keyboard.press("Enter")
    assert Path(saving.value.path()).read_text(encoding="utf-8").split() == text(page).split()


def test_up_and_down_go_through_the_paragraphs(service: str, open_page: Open) -> None:
    page = ready(open_page(service))
    # Some hours of speech, of which no model need be asked.
    page.evaluate(
        """async () => {
          const { Transcript } = await import("./page/transcript.js");
          const [used, draft, stable, unsettled] =
            ["paragraphs", "draft", "stable", "unsettled"].map((id) => document.getElementById(id));
          const list = used.cloneNode();
          used.replaceWith(list);
          const transcript = new Transcript({ list, draft, stable, unsettled }, (start) => {
            transcript.mark(transcript.at(start));
          });
          const word = (_, at) => ({ text: at % 9 ? "word" : "end.", start: at / 2.5, end: at / 2.5 + 0.3 });
          transcript.add(Array.from({ length: 30000 }, word));
          document.getElementById("transcript").hidden = false;
        }"""
    )
    assert words(page).count() == 30_000
    stops = page.locator("#paragraphs [tabindex='0']")
    expect(stops).to_have_count(1)
    stops.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#paragraphs li").nth(2).get_by_role("button")).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#paragraphs li").last.get_by_role("button")).to_be_focused()
    expect(page.locator("#paragraphs li").last).to_be_in_viewport()
    page.keyboard.press("ArrowLeft")
    # The word before the paragraph's first one is the last of the paragraph above.
    expect(page.locator("#paragraphs li").nth(-2).get_by_role("button")).to_be_focused()
    assert playing(page) == int(words(page).nth(playing(page)).get_attribute("data-at") or -1)
    expect(stops).to_have_count(1)
    page.keyboard.press("Home")
    expect(page.locator("#paragraphs li").first.get_by_role("button")).to_be_focused()


def test_a_key_opens_the_door_for_this_tab_alone(guarded: str, open_page: Open) -> None:
    page = ready(open_page(guarded))
    field = page.get_by_label("This service needs an API key")
    expect(field).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is not valid.")
    expect(field).to_be_focused()
    field.fill("s3cret")
    button(page, "Use this key").click()
    expect(field).to_be_hidden()
    expect(page.locator("#model")).to_contain_text("embedded")
    read_sample(page)
    assert "early part of the century" in text(page)
    page.once("dialog", lambda dialog: dialog.accept())
    button(page, "Speak").click()
    heard_at_least(page, 5)
    button(page, "Stop").click()
    expect(page.locator("#saves")).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie, location.search + location.hash]") == [0, "", ""]
    assert page.evaluate("Object.values(sessionStorage)") == ["s3cret"]
    other = page.context.new_page()
    other.goto(guarded)
    expect(other.get_by_label("This service needs an API key")).to_be_visible()


def test_without_a_key_the_microphone_asks_for_one(guarded: str, open_page: Open) -> None:
    page = ready(open_page(guarded))
    expect(page.get_by_label("This service needs an API key")).to_be_focused()
    button(page, "Speak").click()
    expect(page.get_by_label("This service needs an API key")).to_be_focused()
    expect(button(page, "Stop")).to_be_hidden()


def test_waits_while_the_model_is_loading(service: str, open_page: Open) -> None:
    page = open_page("about:blank")
    loading = [True]
    facts: dict[str, str | int] = {"status": "not_ready", "reason": "The model is loading.", "code": "x"}

    def answer(route: Route) -> None:
        if loading[0]:
            route.fulfill(status=503, json=facts)
        else:
            route.continue_()

    page.route("**/readyz", answer)
    page.goto(service)
    expect(page.get_by_role("status").first).to_have_text("The model is loading.")
    facts |= {"reason": "The model is being downloaded.", "done_bytes": 1_049_999_999, "total_bytes": 2_500_000_000}
    expect(page.get_by_role("status").first).to_have_text("The model is being downloaded. 41 % of 2.5 GB")
    expect(button(page, "Speak")).to_be_disabled()
    expect(page.locator("#file")).to_be_disabled()
    loading[0] = False
    ready(page)
    expect(button(page, "Speak")).to_be_enabled()
