"""`POST /transcribe` with `stream=true`."""

import pytest
from structlog.testing import capture_logs

from parakeet_service.domain.errors import InferenceError
from tests.fakes import FailingModel
from tests.unit.entrypoints.http.openai.test_sse import FailsLater, events, loud_and_quiet
from tests.unit.entrypoints.http.recordings.test_routes import post
from tests.unit.entrypoints.world import pcm, started


async def test_words_come_with_their_times_and_then_the_answer() -> None:
    world = await started(window_s=5)
    # Windows end in the pauses: after 3 s and after 8 s.
    data = loud_and_quiet(2.8, 0.4, 4.6, 0.4, 3)
    plain = (await post(world, data, include_timestamps="true")).json()
    answer = await post(world, data, include_timestamps="true", stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *progress, done = events(answer.text)
    assert done == plain | {"type": "done", "duration": 11.2}
    assert len(progress) > 1
    assert {event["type"] for event in progress} == {"progress"}
    told = [word for event in progress for word in event["words"]] + progress[-1]["draft"]
    assert [word["text"] for word in told] == [word["text"] for word in plain["timestamps"]["words"]]
    assert told[0] == {"text": "This", "start": 0.0, "end": 0.3}
    read = [event["read_until"] for event in progress]
    assert read == sorted(read)
    assert read[-1] == pytest.approx(11.2)


async def test_the_answer_at_the_end_has_what_was_asked_for() -> None:
    world = await started()
    *_, done = events((await post(world, pcm(1.2), stream="true")).text)
    assert done == {"text": "This text comes", "type": "done", "duration": 1.2}
    *_, done = events(
        (await post(world, pcm(0.4), stream="true", include_timestamps="true", timestamp_level="char")).text
    )
    assert [char["text"] for char in done["timestamps"]["chars"]] == list("This")


async def test_what_fails_before_any_news_has_a_status() -> None:
    world = await started(model=FailingModel(InferenceError("It failed.")))
    answer = await post(world, pcm(1), stream="true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "inference_failed")


async def test_what_fails_later_is_told_as_elsewhere() -> None:
    world = await started(model=FailsLater(InferenceError("It failed.")), window_s=5)
    with capture_logs() as lines:
        answer = await post(world, loud_and_quiet(2.8, 0.4, 4.6), stream="true")
    *progress, last = events(answer.text)
    assert answer.status_code == 200
    assert progress
    assert last == {"error": {"code": "inference_failed", "message": "It failed."}}
    assert lines[-1]["code"] == "inference_failed"
