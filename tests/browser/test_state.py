"""The page's one state: events lead from one to the next and leave the old one as it was."""

from typing import Any

import pytest

from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

# Frozen: whoever changes a state instead of making a new one fails, as modules are strict.
UPDATE = """async (events) => {
  const { initial, update } = await import("./page/state.js");
  const frozen = (state) => {
    for (const part of Object.values(state)) if (part && typeof part === "object") frozen(part);
    return Object.freeze(state);
  };
  let state = frozen(initial({ noMicrophone: "", hasKey: true }));
  return events.map((event) => state = frozen(update(state, event)));
}"""


@pytest.fixture
def after(service: str, open_page: Open) -> Any:
    page = open_page(service)

    def run(*events: dict[str, Any]) -> dict[str, Any]:
        states: list[dict[str, Any]] = page.evaluate(UPDATE, list(events))
        return states[-1]

    return run


CONFIGURATION = {"settings": {"max_upload_bytes": 1}, "model": None}
ADDED = {"type": "recordings are added", "names": ["a.wav", "b.wav"]}
SPOKEN = (
    {"type": "microphone opens"},
    {"type": "microphone is open"},
    {"type": "words are heard", "words": 3},
)


def test_a_recording_goes_from_uploading_to_done(after: Any) -> None:
    start = {"type": "upload starts", "at": 0}
    sent = {"type": "upload is sent", "share": 0.5}
    assert after(ADDED, start, sent)["progress"] == {"label": "Uploading", "share": 0.5}
    all_sent = {"type": "upload is sent", "share": 1}
    assert after(ADDED, start, sent, all_sent)["progress"] == {"label": "Transcribing", "share": None}
    read = {"type": "upload is read", "words": 1, "label": "Transcribing: 0:02 so far", "share": 0.1}
    assert after(ADDED, start, all_sent, read)["words"] == 1
    done = after(ADDED, start, all_sent, read, {"type": "upload is done", "words": 1})
    assert (done["activity"], done["isComplete"], done["isUnsaved"]) == ("idle", True, False)
    assert done["recordings"] == [
        {"name": "a.wav", "progress": "done", "isUnsaved": True, "isKept": False, "isFound": False},
        {"name": "b.wav", "progress": "waiting", "isUnsaved": False, "isKept": False, "isFound": False},
    ]
    assert done["status"] == "Done: 1 word."
    empty = after(ADDED, start, {"type": "upload is done", "words": 0})
    assert empty["status"] == "No speech was found."


@pytest.mark.parametrize(("words", "message"), [(0, "Cancelled."), (2, "Cancelled. The text so far is kept.")])
def test_what_was_read_before_it_was_cancelled_is_kept(after: Any, words: int, message: str) -> None:
    start = {"type": "upload starts", "at": 0}
    read = {"type": "upload is read", "words": words, "label": "", "share": None}
    state = after(ADDED, start, read, {"type": "upload is cancelled", "words": words})
    assert (state["activity"], state["message"], state["words"]) == ("idle", message, words)


def test_speech_is_unsaved_until_it_is_saved_or_cleared(after: Any) -> None:
    assert after(*SPOKEN)["isUnsaved"]
    stopped = (*SPOKEN, {"type": "microphone closes", "why": ""}, {"type": "speech is read"})
    state = after(*stopped)
    assert (state["activity"], state["isComplete"], state["isUnsaved"]) == ("idle", True, True)
    assert not after(*stopped, {"type": "transcript is saved"})["isUnsaved"]
    cleared = after(*stopped, {"type": "page is cleared"})
    assert (cleared["isUnsaved"], cleared["source"], cleared["words"]) == (False, None, 0)


def test_a_key_is_asked_for_until_one_is_accepted(after: Any) -> None:
    needed = {"type": "key is needed", "wasRefused": False, "remedy": None}
    assert (after(needed)["asksForKey"], after(needed)["hasKey"], after(needed)["message"]) == (True, False, "")
    refused = after({**needed, "wasRefused": True})
    assert refused["message"] == "This key is not valid."
    known = {"type": "service is known", "configuration": CONFIGURATION, "hasKey": True}
    accepted = after({**needed, "wasRefused": True}, {"type": "key is tried"}, known, {"type": "key is accepted"})
    assert (accepted["asksForKey"], accepted["message"], accepted["status"]) == (False, "", "Key accepted.")


def test_a_new_attempt_takes_back_what_was_told_of_the_last_one(after: Any) -> None:
    problem = {"type": "problem", "message": "The connection was lost.", "remedy": "reconnect"}
    assert after(problem)["remedy"] == "reconnect"
    again = after(problem, {"type": "microphone opens"})
    assert (again["message"], again["remedy"]) == ("", None)


def test_a_connection_that_is_lost_leaves_the_microphone_open(after: Any) -> None:
    lost = (*SPOKEN, {"type": "connection is lost", "why": "The connection was lost."})
    state = after(*lost)
    assert (state["activity"], state["isReconnecting"], state["message"]) == (
        "listening",
        True,
        "The connection was lost.",
    )
    back = after(*lost, {"type": "connection is back"})
    assert (back["activity"], back["isReconnecting"], back["message"]) == ("listening", False, "")


def test_a_copy_is_one_of_what_stands_there(after: Any) -> None:
    copied = (*SPOKEN, {"type": "transcript is copied"})
    assert (after(*copied)["isCopied"], after(*copied)["isUnsaved"]) == (True, False)
    more = after(*copied, {"type": "words are heard", "words": 4})
    assert (more["isCopied"], more["isUnsaved"]) == (False, True)
