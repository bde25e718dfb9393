import asyncio
import hashlib
from typing import Any, cast

import httpx2
import numpy as np
import pytest
from deepgram.types import ListenV1Response
from starlette.types import Message as AsgiMessage

from parakeet_service.application.ports.speech_model import Decoding
from tests.fakes import NOT_AUDIO, SearchingModel
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import World, a_settings, pcm, send_raw, started

SCRIPT = "One two. Three four."


async def numbers(**given: Any) -> World:
    return await started(**{"model": ScriptedModel(script=SCRIPT, words_per_s=1), **given})


async def ask(
    world: World, audio: bytes | None = None, *, headers: dict[str, str] | None = None, **query: Any
) -> httpx2.Response:
    async with world.client() as client:
        return await client.post(
            "/v1/listen",
            params=query,
            content=pcm(4) if audio is None else audio,
            headers={"content-type": "application/octet-stream", **(headers or {})},
        )


async def body_of(world: World, **query: Any) -> dict[str, Any]:
    answer = await ask(world, **query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    # The SDK's own types, as strict as they can be.
    ListenV1Response.model_validate(body)
    return body


async def test_a_recording_has_its_text_its_words_and_its_metadata() -> None:
    body = await body_of(await numbers(), model="nova-3")
    (channel,) = body["results"]["channels"]
    (alternative,) = channel["alternatives"]
    assert alternative == {
        "transcript": SCRIPT,
        "confidence": 0.99,
        "words": [
            {
                "word": word.lower().strip("."),
                "start": at,
                "end": at + 0.75,
                "confidence": 0.99,
                "punctuated_word": word,
            }
            for at, word in enumerate(SCRIPT.split())
        ],
    }
    metadata = body["metadata"]
    (uuid,) = metadata["models"]
    assert metadata["sha256"] == hashlib.sha256(pcm(4)).hexdigest()
    assert (metadata["duration"], metadata["channels"]) == (4, 1)
    assert metadata["model_info"] == {uuid: {"name": "scripted", "version": "none", "arch": "script"}}
    assert metadata["created"].endswith("Z")


async def test_silence_has_an_empty_text() -> None:
    answer = await ask(await numbers(), pcm(2, level=0), smart_format="true", utterances="true")
    results = answer.json()["results"]
    ListenV1Response.model_validate(answer.json())
    assert results["utterances"] == []
    assert results["channels"][0]["alternatives"][0] == {
        "transcript": "",
        "confidence": 0.0,
        "words": [],
        "paragraphs": {"transcript": "", "paragraphs": []},
    }


async def test_text_may_be_bare() -> None:
    body = await body_of(await numbers(), punctuate="false")
    alternative = body["results"]["channels"][0]["alternatives"][0]
    assert alternative["transcript"] == "one two three four"
    assert "punctuated_word" not in alternative["words"][0]


@pytest.mark.parametrize("query", [{"smart_format": "true"}, {"paragraphs": "true"}])
async def test_paragraphs_have_sentences(query: dict[str, str]) -> None:
    body = await body_of(await numbers(), **query)
    assert body["results"]["channels"][0]["alternatives"][0]["paragraphs"] == {
        "transcript": "\nOne two. Three four.",
        "paragraphs": [
            {
                "sentences": [
                    {"text": "One two.", "start": 0, "end": 1.75},
                    {"text": "Three four.", "start": 2, "end": 3.75},
                ],
                "num_words": 4,
                "start": 0,
                "end": 3.75,
            }
        ],
    }


async def test_a_paragraph_ends_after_five_sentences_or_a_long_pause() -> None:
    world = await started(model=ScriptedModel(script="A.", words_per_s=1))
    audio = pcm(7) + pcm(3, level=0) + pcm(1)
    async with world.client() as client:
        answer = await client.post("/v1/listen?paragraphs=true", content=audio)
    paragraphs = answer.json()["results"]["channels"][0]["alternatives"][0]["paragraphs"]
    assert paragraphs["transcript"] == "\nA. A. A. A. A.\n\nA. A.\n\nA."
    assert [one["num_words"] for one in paragraphs["paragraphs"]] == [5, 2, 1]


@pytest.mark.parametrize(("split", "texts"), [(None, [SCRIPT]), ("0.2", SCRIPT.split())])
async def test_utterances_are_parted_by_pauses(split: str | None, texts: list[str]) -> None:
    body = await body_of(await numbers(), utterances="true", **({} if split is None else {"utt_split": split}))
    utterances = body["results"]["utterances"]
    assert [one["transcript"] for one in utterances] == texts
    assert len({one["id"] for one in utterances}) == len(texts)


async def test_the_language_is_told_where_there_is_only_one() -> None:
    body = await body_of(await numbers(), detect_language="true")
    assert body["results"]["channels"][0]["detected_language"] == "en"
    body = await body_of(await started(model=SearchingModel()), detect_language="true")
    assert "detected_language" not in body["results"]["channels"][0]
    body = await body_of(await numbers(), detect_language="false")
    assert "detected_language" not in body["results"]["channels"][0]


async def test_terms_are_favoured_and_tags_come_back() -> None:
    model = SearchingModel()
    query: dict[str, Any] = {
        "keyterm": ["New York", "Kowalski"],
        "keywords": ["Ada:2", "spam:-1", "a:b", "b"],
        "tag": ["x", "y"],
    }
    answer = await ask(await started(model=model), language="de", **query)
    assert answer.json()["metadata"]["tags"] == ["x", "y"]
    assert model.asked == [Decoding(phrases=("New York", "Kowalski", "Ada", "a:b", "b"))]
    assert answer.headers["x-ignored-parameters"] == "keywords, language"


async def test_parameters_without_effect_are_named_and_those_that_ask_for_nothing_are_not() -> None:
    world = await numbers()
    answer = await ask(
        world,
        model="nova-3",
        language="en-US",
        diarize="true",
        summarize="v2",
        numerals="false",
        keyterm="x",
        **cast("dict[str, Any]", {"sp ace": 1}),
    )
    assert answer.headers["x-ignored-parameters"] == "diarize, summarize, sp%20ace, keyterm"
    assert answer.headers["dg-request-id"] == answer.headers["x-request-id"]
    assert "x-ignored-parameters" not in (await ask(world, model="nova-3", language="multi")).headers


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"redact": "pci"}, "redact: This service does not redact: it would answer with what must not be read."),
        ({"callback": "https://example.org"}, "callback: This service does not call back"),
        ({"utt_split": "never"}, "utt_split: "),
        ({"language": "fr"}, "The model does not support 'fr'"),
        ({"model": "gpt-9"}, "The model 'gpt-9' is not available"),
    ],
)
async def test_what_cannot_be_met_is_refused(query: dict[str, Any], reason: str) -> None:
    answer = await ask(await numbers(), **query)
    body = answer.json()
    assert (answer.status_code, body["err_code"]) == (400, "Bad Request")
    assert body["err_msg"].startswith(reason)
    assert body["request_id"] == answer.headers["dg-request-id"] == answer.headers["x-request-id"]
    assert answer.headers["dg-error"] == body["err_msg"]


async def test_too_long_terms_are_refused() -> None:
    answer = await ask(await started(model=SearchingModel()), keyterm="x" * 101)
    assert (answer.status_code, answer.json()["err_msg"][:9]) == (400, "keyterm: ")


@pytest.mark.parametrize(("audio", "status"), [(NOT_AUDIO, 400), (b"", 400)])
async def test_what_is_no_audio_is_refused(audio: bytes, status: int) -> None:
    answer = await ask(await numbers(), audio)
    assert (answer.status_code, answer.json()["err_code"]) == (status, "Bad Request")


async def test_errors_have_the_names_that_deepgram_gives_them() -> None:
    world = await numbers(settings=a_settings(api_keys="s3cret", max_upload_bytes=1000))
    answer = await ask(world, headers={"authorization": "Token wrong"})
    assert (answer.status_code, answer.json()["err_code"]) == (401, "INVALID_AUTH")
    answer = await ask(world, headers={"authorization": "Token s3cret"})
    assert (answer.status_code, answer.json()["err_code"]) == (413, "UPLOAD_TOO_LARGE")
    answer = await ask(World())
    assert (answer.status_code, answer.json()["err_code"]) == (503, "MODEL_NOT_READY")
    async with (await numbers()).client() as client:
        wrong, plain = await client.put("/v1/listen"), await client.get("/v1/listen")
    assert (wrong.status_code, wrong.json()["err_code"]) == (405, "METHOD_NOT_ALLOWED")
    assert (plain.status_code, plain.json()["err_code"]) == (426, "UPGRADE_REQUIRED")


async def test_raw_samples_are_described_by_the_query() -> None:
    world = await numbers()
    await ask(world, encoding="linear16", sample_rate="8000")
    head = np.frombuffer(world.decoder.first[-1], "<u2", count=22)
    assert world.decoder.first[-1][:4] == b"RIFF"
    assert (head[10], head[11], head[12], head[17]) == (1, 1, 8000, 16)
    await ask(world, b"RIFF" + bytes(40), encoding="linear16")
    assert len(world.decoder.first[-1]) == 44


async def test_a_recording_may_be_named_by_its_url() -> None:
    world = await numbers()
    world.web.recordings["https://example.org/talk.wav"] = pcm(4)
    named = {"content-type": "application/json"}
    answer = await ask(world, b'{"url":"https://example.org/talk.wav"}', headers=named)
    body = answer.json()
    ListenV1Response.model_validate(body)
    assert body["results"]["channels"][0]["alternatives"][0]["transcript"] == SCRIPT
    assert body["metadata"]["sha256"] == hashlib.sha256(pcm(4)).hexdigest()
    for bad in (b'{"url":"http://127.0.0.1/"}', b"{}", b"[", b'{"url":5}', b'{"url":"https://example.org/other"}'):
        answer = await ask(world, bad, headers=named)
        assert (answer.status_code, answer.json()["err_code"]) == (400, "Bad Request")
    answer = await ask(world, b'"' + bytes(1 << 20) + b'"', headers=named)
    assert (answer.status_code, answer.json()["err_code"]) == (413, "UPLOAD_TOO_LARGE")
    assert world.web.open_now == 0


async def test_an_upload_has_a_place_and_leaves_it() -> None:
    world = await numbers(settings=a_settings(max_uploads=1))
    incoming: asyncio.Queue[AsgiMessage] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": pcm(1), "more_body": True})
    sending = asyncio.create_task(send_raw(world.app, "/v1/listen", incoming, {}))
    await asyncio.sleep(0.01)
    answer = await ask(world)
    assert (answer.status_code, answer.json()["err_code"]) == (503, "OVERLOADED")
    incoming.put_nowait({"type": "http.request", "body": pcm(1)})
    assert (await sending)[0]["status"] == 200
    assert (await ask(world)).status_code == 200


async def test_who_leaves_during_an_upload_leaves_nothing() -> None:
    world = await numbers(settings=a_settings(max_uploads=1))
    incoming: asyncio.Queue[AsgiMessage] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": bytes(1 << 21), "more_body": True})
    incoming.put_nowait({"type": "http.disconnect"})
    await send_raw(world.app, "/v1/listen", incoming, {})
    assert (await ask(world)).status_code == 200
    assert world.decoder.open_now == 0


def call() -> bytes:
    """Two channels: the first one speaks in the first second and in the fourth one, the other one in between."""
    hiss = np.random.default_rng(1).integers(-8000, 8000, 16000)
    frames = np.zeros((64000, 2), np.int16)
    frames[:16000, 0] = hiss
    frames[48000:, 0] = hiss
    frames[24000:40000, 1] = hiss
    return bytes(frames)


async def multichannel(**query: Any) -> dict[str, Any]:
    world = await started(model=ScriptedModel(script="One two three four five six.", words_per_s=1))
    world.decoder.channels = 2
    answer = await ask(world, call(), multichannel="true", **query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    parsed = ListenV1Response.model_validate(body)
    assert len(parsed.results.channels) == parsed.metadata.channels == 2
    return body


async def test_channels_are_told_apart() -> None:
    body = await multichannel(smart_format="true", detect_language="true")
    first, second = body["results"]["channels"]
    assert first["alternatives"][0]["transcript"] == "One four"
    assert second["alternatives"][0]["transcript"].startswith("two")
    assert [word["start"] for word in first["alternatives"][0]["words"]] == [0, 3]
    assert first["detected_language"] == second["detected_language"] == "en"
    assert first["alternatives"][0]["paragraphs"]["paragraphs"]
    assert body["metadata"]["duration"] == 4


async def test_utterances_of_channels_come_as_people_took_turns() -> None:
    utterances = (await multichannel(utterances="true"))["results"]["utterances"]
    assert [one["channel"] for one in utterances] == [0, 1, 0]
    assert [one["start"] for one in utterances] == sorted(one["start"] for one in utterances)
    assert len({one["id"] for one in utterances}) == 3


async def test_a_channel_alone_is_one() -> None:
    hiss = np.random.default_rng(1).integers(-8000, 8000, 64000, np.int16).tobytes()
    body = (await ask(await numbers(), hiss, multichannel="true", utterances="true")).json()
    plain = (await ask(await numbers(), hiss, utterances="true")).json()
    assert body["results"]["channels"] == plain["results"]["channels"]
    assert [one["channel"] for one in body["results"]["utterances"]] == [0]
    assert body["metadata"]["channels"] == 1


async def test_too_many_channels_are_refused_in_deepgrams_words() -> None:
    world = await numbers()
    world.decoder.channels = 17
    answer = await ask(world, pcm(17), multichannel="true")
    assert (answer.status_code, answer.json()["err_msg"]) == (
        400,
        "multichannel takes up to 16 channels; the recording has 17.",
    )
