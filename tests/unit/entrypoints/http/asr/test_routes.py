import json
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.fakes import LoudnessVad, SearchingModel
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import World, pcm, started

AUDIO = {"audio_file": ("my talk.wav", pcm(4))}


async def numbers(**given: Any) -> World:
    return await started(model=ScriptedModel(script="One two. Three four.", words_per_s=1), **given)


async def ask(world: World, path: str = "/asr", **query: Any) -> httpx2.Response:
    async with world.client() as client:
        return await client.post(path, params=query, files=AUDIO)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (None, "One two.\nThree four.\n"),
        ("txt", "One two.\nThree four.\n"),
        ("tsv", "start\tend\ttext\n0\t1750\tOne two.\n2000\t3750\tThree four.\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,750\nOne two.\n\n2\n00:00:02,000 --> 00:00:03,750\nThree four.\n\n"),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.750\nOne two.\n\n00:00:02.000 --> 00:00:03.750\nThree four.\n\n",
        ),
    ],
)
async def test_every_text_format(output: str | None, text: str) -> None:
    answer = await ask(await numbers(), **({} if output is None else {"output": output}))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="my%20talk.wav.{output or "txt"}"'
    assert answer.headers["asr-engine"] == "parakeet"
    assert answer.text == text
    assert "x-ignored-parameters" not in answer.headers


async def test_json_has_whispers_fields() -> None:
    answer = await ask(await numbers(), output="json", word_timestamps=True)
    body = answer.json()
    assert (body["text"], body["language"]) == ("One two. Three four.", "en")
    first, second = body["segments"]
    assert (first["id"], first["text"], first["start"], first["end"]) == (0, " One two.", 0, 1.75)
    assert second["words"][0] == {"word": " Three", "start": 2, "end": 2.75, "probability": 0.99}
    assert {"seek", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"} < first.keys()

    plain = json.loads((await ask(await numbers(), output="json")).text)
    assert "words" not in plain["segments"][0]


async def test_names_what_has_no_effect() -> None:
    world = await numbers(detector=LoudnessVad())
    answer = await ask(world, initial_prompt="x", vad_filter=False, word_timestamps=True, video_file="a", ä=1)
    ignored = answer.headers["x-ignored-parameters"]
    assert ignored == "initial_prompt, vad_filter, word_timestamps, video_file, %C3%A4"
    assert "x-ignored-parameters" not in (await ask(world, vad_filter=True, task="translate", language="en")).headers


async def test_what_the_client_has_encoded_is_raw_audio() -> None:
    world = await numbers()
    async with world.client() as client:
        heard = [
            (await client.post("/asr?encode=false", files={"audio_file": data})).text
            for data in (pcm(4), b"RIFF" + pcm(4))
        ]
    # The fake decoder takes what stands before raw samples for samples: they are moved by as much as that is long.
    assert len(heard[0].split()) == len(heard[1].split()) == 4


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"language": "de"}, "language"),
        ({"output": "docx"}, "output"),
        ({"task": "sing"}, "task"),
        ({"word_timestamps": "maybe"}, "word_timestamps"),
    ],
)
async def test_what_cannot_be_done_is_refused(query: dict[str, str], param: str) -> None:
    answer = await ask(await numbers(), **query)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == param


async def test_does_not_translate_what_may_be_no_english() -> None:
    world = await started(model=SearchingModel())
    assert (await ask(world, task="translate")).json()["error"]["param"] == "task"
    answer = await ask(world, task="translate", language="en")
    assert answer.status_code == 200
    assert answer.headers["x-ignored-parameters"] == "language"


async def test_a_model_of_one_language_has_detected_it() -> None:
    answer = await ask(await numbers(), "/detect-language", encode=False, video_file="x")
    assert answer.json() == {"detected_language": "english", "language_code": "en"}
    assert answer.headers["x-ignored-parameters"] == "video_file"


async def test_a_model_of_several_languages_detects_none() -> None:
    answer = await ask(await started(model=SearchingModel()), "/detect-language")
    assert answer.status_code == 422


async def test_before_the_model_is_loaded_nothing_is_read() -> None:
    assert (await ask(World())).status_code == 503


async def test_silence_has_no_lines() -> None:
    world = await numbers()
    async with world.client() as client:
        answer = await client.post("/asr", files={"audio_file": np.zeros(16_000, "<i2").tobytes()})
    assert answer.text == ""
