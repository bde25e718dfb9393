import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import Decoding
from parakeet_service.domain.errors import InferenceError, OverloadedError
from tests.fakes import KILLS_DECODER, NOT_AUDIO, FailingModel, GatedModel, SearchingModel
from tests.unit.entrypoints.world import World, a_settings, call, pcm, send_raw, started

BOUNDARY = "xyz"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def form_body(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


async def post(world: World, data: bytes, path: str = "/transcribe", **fields: str | list[str]) -> httpx2.Response:
    async with world.client() as client:
        return await client.post(path, files={"file": ("a.wav", data)}, data=fields)


async def test_answers_the_text_alone() -> None:
    answer = await post(await started(), pcm(1.2))
    assert (answer.status_code, answer.json()) == (200, {"text": "This text comes"})


async def test_answers_the_times_of_words_and_segments() -> None:
    answer = await post(await started(), pcm(2.8), include_timestamps="true")
    body = answer.json()
    assert body["text"] == "This text comes from a script. Nobody"
    assert set(body["timestamps"]) == {"words", "segments"}
    assert body["timestamps"]["words"][:2] == [
        {"text": "This", "start": 0.0, "end": 0.3},
        {"text": "text", "start": 0.4, "end": 0.7},
    ]
    assert body["timestamps"]["segments"] == [
        {"text": "This text comes from a script.", "start": 0.0, "end": 2.3},
        {"text": "Nobody", "start": 2.4, "end": 2.7},
    ]


async def test_separate_channels_are_told_of_words_and_segments() -> None:
    world = await started()
    world.decoder.channels = 2
    body = (await post(world, call(), channels="separate", include_timestamps="true")).json()
    assert [(one["text"], one["channel"]) for one in body["timestamps"]["segments"]] == [
        ("This text", 0),
        ("from a", 1),
    ]
    assert [one["channel"] for one in body["timestamps"]["words"]] == [0, 0, 1, 1]
    assert body["text"] == "This text from a"


async def test_separate_channels_are_told_of_progress() -> None:
    world = await started()
    world.decoder.channels = 2
    answer = await post(world, call(), channels="separate", stream="true")
    told = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    progress = [(one["channel"], (one["words"] + one["draft"])[0]["text"]) for one in told if one["type"] == "progress"]
    assert progress == [(0, "This"), (1, "from")]


async def test_refuses_other_ways_with_channels() -> None:
    answer = await post(await started(), pcm(1), channels="left")
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "channels")


async def test_answers_the_times_of_characters() -> None:
    answer = await post(await started(), pcm(0.4), include_timestamps="true", timestamp_level="char")
    assert answer.json()["timestamps"]["chars"] == [
        {"text": "T", "start": 0.0, "end": 0.075},
        {"text": "h", "start": 0.075, "end": 0.15},
        {"text": "i", "start": 0.15, "end": 0.225},
        {"text": "s", "start": 0.225, "end": 0.3},
    ]


async def test_without_timestamps_the_level_changes_nothing() -> None:
    answer = await post(await started(), pcm(0.4), timestamp_level="char")
    assert answer.json() == {"text": "This"}


async def test_silence_has_an_empty_text() -> None:
    answer = await post(await started(), pcm(2, level=0), include_timestamps="true")
    assert (answer.status_code, answer.json()) == (200, {"text": "", "timestamps": {"words": [], "segments": []}})


async def test_without_chunking_a_long_recording_is_refused_with_limit_and_value() -> None:
    world = await started()
    answer = await post(world, pcm(6), should_chunk="false")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["limit_s"]) == (413, "audio_too_long", 5)
    assert error["duration_s"] > 5
    assert (await post(world, pcm(6))).status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "empty_audio"),
        (NOT_AUDIO, 415, "undecodable_audio"),
        (KILLS_DECODER, 500, "decoder_unavailable"),
    ],
)
async def test_tells_the_callers_fault_from_ours(data: bytes, status: int, code: str) -> None:
    answer = await post(await started(), data)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"code", "message"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("include_timestamps", "perhaps"), ("should_chunk", "-"), ("timestamp_level", "phoneme")],
)
async def test_names_a_field_that_cannot_be_read(field: str, value: str) -> None:
    answer = await post(await started(), pcm(1), **{field: value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert answer.json()["error"]["param"] == field


async def test_names_a_missing_file() -> None:
    async with (await started()).client() as client:
        answer = await client.post("/transcribe", data={"include_timestamps": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "file")


@pytest.mark.parametrize(("path", "status"), [("/transcribe", 422), ("/v1/audio/transcriptions", 400)])
async def test_says_how_a_file_is_sent_to_whom_sends_its_name(path: str, status: int) -> None:
    async with (await started()).client() as client:
        answer = await client.post(path, data={"file": "talk.wav", "model": "whisper-1"}, files={"x": b""})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, "file")
    assert error["message"].startswith("file: Expected a file, got text.")
    assert "-F file=@NAME" in error["message"]


async def test_refuses_a_body_that_is_no_form() -> None:
    async with (await started()).client() as client:
        answer = await client.post("/transcribe", content=b"not a form", headers=FORM)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_refuses_text_fields_that_would_fill_the_memory() -> None:
    async with (await started()).client() as client:
        answer = await client.post("/transcribe", files={"note": (None, b"x" * (1 << 17))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


async def test_says_when_to_come_back() -> None:
    world = await started(model=FailingModel(OverloadedError("The queue is full.", retry_after_s=2.5)))
    answer = await post(world, pcm(1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "3"


async def test_is_not_ready_while_the_model_loads() -> None:
    answer = await post(World(), pcm(1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")


async def test_a_fault_of_the_model_is_ours() -> None:
    answer = await post(await started(model=FailingModel(InferenceError("The model failed."))), pcm(1))
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "inference_failed", "message": "The model failed."}}


@pytest.mark.leaping_clock
async def test_stops_work_that_takes_too_long() -> None:
    model = GatedModel()
    answer = await post(await started(model=model, timeout_s=120), pcm(1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "processing_timeout")
    assert answer.json()["error"]["limit_s"] == 120
    assert model.cancelled == 1


async def test_a_defect_is_logged_but_not_shown() -> None:
    world = await started(model=FailingModel(ZeroDivisionError("secret")))
    with capture_logs() as lines:
        answer = await post(world, pcm(1))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [line["exc_info"] for line in errors] == [True]
    assert lines[-1]["event"] == "request"
    assert (lines[-1]["status"], lines[-1]["code"]) == (500, "internal_error")


async def test_work_stops_when_the_client_leaves() -> None:
    model = GatedModel()
    world = await started(model=model)
    incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    await incoming.put({"type": "http.request", "body": form_body(pcm(1)), "more_body": False})
    with capture_logs() as lines:
        request = asyncio.create_task(send_raw(world.app, "/transcribe", incoming, FORM))
        await model.at_work.wait()
        await incoming.put({"type": "http.disconnect"})
        await request
    assert (model.cancelled, world.decoder.open_now) == (1, 0)
    assert [(line["event"], line["status"], line["code"]) for line in lines] == [("request", 499, "client_gone")]
    assert lines[0]["log_level"] == "info"


async def test_a_client_that_leaves_while_it_sends_is_no_error() -> None:
    world = await started()
    incoming: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    await incoming.put({"type": "http.request", "body": form_body(pcm(1))[:1000], "more_body": True})
    await incoming.put({"type": "http.disconnect"})
    with capture_logs() as lines:
        await send_raw(world.app, "/transcribe", incoming, FORM)
    assert [(line["status"], line["code"], line["log_level"]) for line in lines] == [(499, "client_gone", "info")]
    assert world.decoder.opened == 0


async def test_logs_one_line_with_the_length_of_the_audio() -> None:
    world = await started()
    with capture_logs() as lines:
        await post(world, pcm(1.5))
    assert len(lines) == 1
    line = lines[0]
    assert (line["event"], line["method"], line["route"], line["status"]) == ("request", "POST", "/transcribe", 200)
    assert line["audio_s"] == 1.5
    assert line["duration_ms"] >= 0


async def test_takes_recordings_up_to_the_longest() -> None:
    world = await started(longest_s=10, settings=a_settings(max_upload_bytes=1 << 20))
    assert (await post(world, pcm(10))).status_code == 200
    assert (await post(world, pcm(10.1))).status_code == 413


@pytest.mark.parametrize(
    ("fields", "decoding"),
    [
        ({}, Decoding()),
        ({"keywords": "Parakeet , New York,, Parakeet"}, Decoding(phrases=("Parakeet", "New York"))),
        ({"keywords": ["Parakeet", "MLX"]}, Decoding(phrases=("Parakeet", "MLX"))),
        ({"beam_size": "16"}, Decoding(beam_size=16)),
        ({"keywords": "MLX", "beam_size": "3"}, Decoding(beam_size=3, phrases=("MLX",))),
    ],
)
async def test_a_model_that_can_searches_as_it_is_asked_to(
    fields: dict[str, str | list[str]], decoding: Decoding
) -> None:
    model = SearchingModel()
    answer = await post(await started(model=model), pcm(0.4), "/transcribe", **fields)
    assert answer.status_code == 200
    assert model.asked == [decoding]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"beam_size": "17"}, None),
        ({"beam_size": "0"}, None),
        ({"keywords": ",".join(map(str, range(501)))}, "keywords"),
        ({"keywords": 101 * "a"}, "keywords"),
        ({"keywords": ",".join(f"{i:0100}" for i in range(101))}, "keywords"),
    ],
)
async def test_a_search_has_its_limits(fields: dict[str, str | list[str]], param: str | None) -> None:
    model = SearchingModel()
    answer = await post(await started(model=model), pcm(0.4), "/transcribe", **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert param is None or answer.json()["error"]["param"] == param
    assert model.asked == []


@pytest.mark.parametrize(("field", "value"), [("keywords", "Parakeet"), ("beam_size", "2")])
async def test_a_model_that_cannot_search_is_not_asked_to(field: str, value: str) -> None:
    answer = await post(await started(), pcm(0.4), **{field: value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_fields_that_it_does_not_know_are_named_in_the_answer(stream: str) -> None:
    form = {"include_timestamp": "true", "language": "de", "n\u00e4me": "1", "stream": stream, "should_chunk": "true"}
    async with (await started()).client() as client:
        answer = await client.post("/transcribe", files={"file": pcm(0.4)}, data=form)
        clean = await client.post("/transcribe", files={"file": pcm(0.4)}, data={"keywords": "a", "beam_size": "2"})
    assert answer.status_code == 200
    assert answer.headers["x-ignored-parameters"] == "include_timestamp, language, n?me"
    assert "x-ignored-parameters" not in clean.headers


@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions"])
@pytest.mark.parametrize("disposition", ['name="file"', "name=\"file\"; filename*=UTF-8''a.wav"])
async def test_says_what_a_recording_lacks_that_is_no_file(path: str, disposition: str) -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    body = head.encode() + pcm(4) + f"\r\n--{BOUNDARY}--\r\n".encode()
    async with (await started()).client() as client:
        answer = await client.post(path, content=body, headers=FORM)
    assert answer.status_code == 400
    assert "needs a filename" in answer.json()["error"]["message"]


async def test_says_how_to_send_a_recording_that_came_as_the_body_itself() -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    async with (await started()).client() as client:
        for body in (pcm(4), b"\x00" * 1000, b"a=1&" * 100):
            answer = await client.post("/transcribe", content=body, headers=kind)
            assert 400 <= answer.status_code < 500
            assert "-F file=@NAME" in answer.json()["error"]["message"]


async def test_says_how_to_send_a_recording_that_did_not_come() -> None:
    async with (await started()).client() as client:
        answer = await client.post("/transcribe", data={"should_chunk": "true"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "file")
    assert "last boundary" in answer.json()["error"]["message"]
