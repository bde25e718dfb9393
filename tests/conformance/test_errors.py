"""Every error reaches the official client whole."""

import threading
from typing import Any

import openai
import pytest

from parakeet_service.domain.errors import InferenceError
from tests.conformance.calls import SPEECH, callers
from tests.conformance.serving import make_app, served
from tests.conformance.situations import SITUATIONS, Situation, outcome
from tests.fakes import SteppedModel
from tests.unit.entrypoints.http.openai.test_sse import FailsLater


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.what)
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_has_every_field_and_an_id(situation: Situation) -> None:
    seen = outcome(situation.what)
    assert seen.type in {"invalid_request_error", "authentication_error", "server_error"}
    assert seen.code
    assert seen.has_id
    assert seen.says
    assert "secret" not in seen.says
    assert seen.requests == (2 if seen.status >= 500 and seen.should_retry != "false" else 1)
    assert not (seen.retry_after and seen.should_retry == "false")
    assert bool(seen.retry_after) == (seen.status == 503)


def test_what_breaks_in_a_stream_is_raised_there() -> None:
    with (
        served(make_app(FailsLater(InferenceError("It failed.")))) as service,
        callers(service.url) as client,
    ):
        events = client.sync.audio.transcriptions.create(model="whisper-1", file=("a.wav", SPEECH), stream=True)
        assert next(events).to_dict() == {"type": "transcript.text.delta", "delta": "word"}
        with pytest.raises(openai.APIError, match="It failed") as raised:
            next(events)
    assert (raised.value.type, raised.value.code) == ("server_error", "inference_failed")


def test_who_leaves_a_stream_stops_the_work() -> None:
    model = SteppedModel()
    stopped = threading.Event()
    model.on_cancel = stopped.set
    with served(make_app(model)) as service, callers(service.url) as client:
        service.call(model.steps.release)
        events: Any = client.sync.audio.transcriptions.create(model="whisper-1", file=("a.wav", SPEECH), stream=True)
        # The first window alone has been read: its words are here, and the rest is still to come.
        assert next(events).delta == "This text comes from"
        assert not stopped.is_set()
        events.close()
        stopped.wait()
