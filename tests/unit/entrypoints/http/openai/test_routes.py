import json
import math
import zlib
from io import BytesIO

import httpx2
import pytest
from openai import AsyncOpenAI
from openai.types.audio import TranscriptionDiarized, TranscriptionVerbose

from parakeet_service.application.ports.speech_model import GREEDY, Decoding
from parakeet_service.domain.errors import OverloadedError
from parakeet_service.entrypoints.http.openai.models import ALIASES
from tests.fakes import KILLS_DECODER, NOT_AUDIO, FailingModel, GatedModel, LoudnessVad, SearchingModel
from tests.unit.entrypoints.world import World, a_settings, call, pcm, started

PATH = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
VAD: dict[str, str | list[str]] = {"chunking_strategy[type]": "server_vad"}


async def post_to(path: str, world: World, data: bytes, **fields: str | list[str]) -> httpx2.Response:
    async with world.client() as client:
        return await client.post(path, files={"file": ("a.wav", data)}, data={"model": "whisper-1", **fields})


async def post(world: World, data: bytes, **fields: str | list[str]) -> httpx2.Response:
    return await post_to(PATH, world, data, **fields)


def the_client(world: World) -> AsyncOpenAI:
    return AsyncOpenAI(api_key="none", base_url="http://service/v1", http_client=world.client(), max_retries=0)


async def test_json_is_the_text_and_the_seconds() -> None:
    answer = await post(await started(), pcm(1.2))
    assert answer.json() == {"text": "This text comes", "usage": {"type": "duration", "seconds": 1.2}}
    assert "x-ignored-parameters" not in answer.headers


@pytest.mark.parametrize("field", ["include[]", "include"])
async def test_gives_the_probabilities_of_tokens_that_are_asked_for(field: str) -> None:
    answer = await post(await started(), pcm(0.8), **{field: "logprobs"})
    assert answer.json()["logprobs"] == [
        {"token": f" {word}", "bytes": list(f" {word}".encode()), "logprob": round(math.log(0.99), 6)}
        for word in ("This", "text")
    ]


async def test_silence_has_an_empty_text_in_every_format() -> None:
    world = await started()
    silent = pcm(1, level=0)
    assert (await post(world, silent, include="logprobs")).json() == {
        "text": "",
        "logprobs": [],
        "usage": {"type": "duration", "seconds": 1},
    }
    verbose = (await post(world, silent, response_format="verbose_json", timestamp_granularities="word,segment")).json()
    assert (verbose["text"], verbose["words"], verbose["segments"], verbose["duration"]) == ("", [], [], 1)
    plain = [(await post(world, silent, response_format=name)).text for name in ("text", "srt", "vtt")]
    assert plain == ["\n", "", "WEBVTT\n\n"]


@pytest.mark.parametrize(
    ("response_format", "kind", "text"),
    [
        ("text", "text/plain", "This text comes\n"),
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:01,100\nThis text comes\n\n"),
        ("vtt", "text/vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.100\nThis text comes\n\n"),
    ],
)
async def test_plain_formats_are_the_raw_body(response_format: str, kind: str, text: str) -> None:
    answer = await post(await started(), pcm(1.2), response_format=response_format)
    assert answer.text == text
    assert answer.headers["content-type"].startswith(kind)


async def test_verbose_json_has_true_segments_and_no_words() -> None:
    answer = await post(await started(), pcm(2.8), response_format="verbose_json", temperature="0.25")
    body = answer.json()
    assert {name: body[name] for name in ("task", "language", "duration", "text", "usage")} == {
        "task": "transcribe",
        "language": "english",
        "duration": 2.8,
        "text": "This text comes from a script. Nobody",
        "usage": {"type": "duration", "seconds": 2.8},
    }
    assert "words" not in body
    first, second = body["segments"]
    text = first["text"][1:].encode()
    assert first == {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": 2.3,
        "text": " This text comes from a script.",
        "tokens": [0, 1, 2, 3, 4, 5],
        "temperature": 0.0,
        "avg_logprob": round(math.log(0.99), 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4),
        "no_speech_prob": 0.0,
    }
    assert (second["id"], second["seek"], second["start"]) == (1, 240, 2.4)


async def test_the_detector_of_speech_says_how_likely_there_is_none() -> None:
    world = await started(detector=LoudnessVad())
    answer = await post(world, pcm(1.2, level=16000), response_format="verbose_json")
    (segment,) = answer.json()["segments"]
    assert segment["no_speech_prob"] == 0.05


@pytest.mark.parametrize("field", ["timestamp_granularities[]", "timestamp_granularities"])
@pytest.mark.parametrize(
    ("asked", "present"),
    [
        (["word"], {"words"}),
        (["segment"], {"segments"}),
        (["word", "segment"], {"words", "segments"}),
        (["word,segment"], {"words", "segments"}),
    ],
)
async def test_gives_the_granularities_that_are_asked_for(field: str, asked: list[str], present: set[str]) -> None:
    answer = await post(await started(), pcm(0.8), response_format="verbose_json", **{field: asked})
    assert answer.json().keys() & {"words", "segments"} == present
    if "words" in present:
        assert answer.json()["words"][1] == {"word": "text", "start": 0.4, "end": 0.7}


async def test_the_official_client_reads_verbose_json() -> None:
    async with the_client(await started()) as client:
        transcript = await client.audio.transcriptions.create(
            file=("a.wav", BytesIO(pcm(2.8))),
            model="whisper-1",
            language="en",
            prompt="names",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    strict = TranscriptionVerbose.model_validate(json.loads(transcript.model_dump_json()), strict=True)
    assert strict.text == "This text comes from a script. Nobody"
    assert strict.words is not None
    assert strict.segments is not None
    assert [segment.id for segment in strict.segments] == [0, 1]


async def test_the_official_client_reads_the_models() -> None:
    async with the_client(await started()) as client:
        assert [model.id async for model in client.models.list()] == ["scripted"]
        model = await client.models.retrieve("whisper-1")
    assert model.id == "scripted"
    assert model.model_dump()["aliases"] == sorted(ALIASES)


@pytest.mark.parametrize("name", [*sorted(ALIASES), "scripted"])
async def test_serves_the_loaded_model_under_its_name_and_the_usual_ones(name: str) -> None:
    assert (await post(await started(), pcm(0.4), model=name)).status_code == 200


async def test_an_unknown_model_is_not_found() -> None:
    answer = await post(await started(), pcm(0.4), model="someone/large-v3")
    assert answer.status_code == 404
    assert answer.json() == {
        "error": {
            "message": "The model 'someone/large-v3' is not available; 'scripted' is.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    async with (await started()).client() as client:
        assert (await client.get("/v1/models/someone/large-v3")).status_code == 404


@pytest.mark.parametrize(("wanted", "said"), [("tsv", "'json', 'text'"), ("diarized_json", "needs channels=separate")])
async def test_a_format_that_is_refused_is_told_why(wanted: str, said: str) -> None:
    message = (await post(await started(), pcm(0.4), response_format=wanted)).json()["error"]["message"]
    assert said in message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"language": "fr"}, "language"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "1.5"}, "temperature"),
        ({"response_format": "docx"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"channels": "separate", "stream": "true"}, "stream"),
        ({"channels": "left"}, "channels"),
        ({"response_format": "text", "stream": "true"}, "stream"),
        ({"response_format": "verbose_json", "stream": "true"}, "stream"),
        ({"stream": "perhaps"}, "stream"),
        ({"languages[]": ["fr", "de"]}, "languages"),
        ({"include[]": "tokens"}, "include"),
        ({"response_format": "verbose_json", "include[]": "logprobs"}, "include"),
        ({"chunking_strategy": "sometimes"}, "chunking_strategy"),
        ({"chunking_strategy": "{"}, "chunking_strategy"),
        ({"chunking_strategy": '{"threshold": 0.5}'}, "chunking_strategy[type]"),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": 2}'}, "chunking_strategy[threshold]"),
        ({"chunking_strategy[threshold]": "0.5"}, "chunking_strategy[type]"),
        ({"chunking_strategy[type]": "client_vad"}, "chunking_strategy[type]"),
        ({**VAD, "chunking_strategy[threshold]": "1.1"}, "chunking_strategy[threshold]"),
        ({**VAD, "chunking_strategy[threshold]": "nan"}, "chunking_strategy[threshold]"),
        ({**VAD, "chunking_strategy[silence_duration_ms]": "-1"}, "chunking_strategy[silence_duration_ms]"),
        ({**VAD, "chunking_strategy[prefix_padding_ms]": "1.5"}, "chunking_strategy[prefix_padding_ms]"),
        ({"keywords": ",".join(map(str, range(501)))}, "keywords"),
        ({"response_format": "verbose_json", "timestamp_granularities[]": "phrase"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
    ],
)
async def test_names_the_parameter_that_is_wrong(fields: dict[str, str | list[str]], param: str) -> None:
    answer = await post(await started(), pcm(0.4), **fields)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, "invalid_request")


@pytest.mark.parametrize("missing", ["file", "model"])
async def test_names_the_parameter_that_is_missing(missing: str) -> None:
    async with (await started()).client() as client:
        fields = {"file": ("a", pcm(0.4)), "model": (None, b"whisper-1")}
        del fields[missing]
        answer = await client.post(PATH, files=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, missing)


@pytest.mark.parametrize("language", ["en", "EN", "en-GB", "english", ""])
async def test_takes_the_models_language(language: str) -> None:
    assert (await post(await started(), pcm(0.4), language=language)).status_code == 200


async def test_names_fields_that_it_does_not_know_and_goes_on() -> None:
    answer = await post(await started(), pcm(0.4), stream="false", verbosity="high", **{"a[b][c]": "d"})
    assert answer.json()["text"] == "This"
    assert answer.headers["x-ignored-parameters"] == "verbosity, a[b][c]"


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"prompt": "Names, and more names."}, "prompt"),
        ({"keywords[]": ["Parakeet", "MLX"]}, "keywords"),
        ({"temperature": "0.4"}, "temperature"),
        ({"temperature": "0"}, None),
        ({"language": "en", "languages": "en,de"}, None),
        ({"chunking_strategy": "auto"}, None),
        ({"chunking_strategy": "null"}, None),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": 0.4, "more": 1}'}, "chunking_strategy"),
        ({**VAD, "chunking_strategy[prefix_padding_ms]": "300"}, "chunking_strategy"),
        ({"known_speaker_names[]": "Ann", "prompt": "x"}, "prompt, known_speaker_names"),
        ({"stream": "true", "prompt": "x"}, "prompt"),
    ],
)
async def test_names_what_it_took_without_effect(fields: dict[str, str | list[str]], ignored: str | None) -> None:
    answer = await post(await started(), pcm(0.4), **fields)
    assert answer.status_code == 200
    assert answer.headers.get("x-ignored-parameters") == ignored


@pytest.mark.parametrize(
    ("fields", "phrases"),
    [
        ({"keywords[]": ["Parakeet", "MLX"]}, ("Parakeet", "MLX")),
        ({"keywords": "Parakeet , MLX,, Parakeet"}, ("Parakeet", "MLX")),
        ({"keywords": ["Parakeet"], "keywords[]": ["MLX"]}, ("MLX", "Parakeet")),
    ],
)
async def test_a_model_that_can_favours_the_keywords(
    fields: dict[str, str | list[str]], phrases: tuple[str, ...]
) -> None:
    model = SearchingModel()
    answer = await post(await started(model=model), pcm(0.4), **fields)
    assert model.asked == [Decoding(phrases=phrases)]
    assert "x-ignored-parameters" not in answer.headers


async def test_a_prompt_is_no_list_of_keywords() -> None:
    model = SearchingModel()
    answer = await post(await started(model=model), pcm(0.4), prompt="Parakeet")
    assert model.asked == [GREEDY]
    assert answer.headers["x-ignored-parameters"] == "prompt"


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({}, "unknown"),
        ({"language": "de-AT"}, "german"),
        ({"languages[]": ["de", "fr"]}, "german"),
        ({"languages[]": ["de", "en"]}, "unknown"),
    ],
)
async def test_of_several_languages_it_names_only_one_that_was_asked_for(
    fields: dict[str, str | list[str]], language: str
) -> None:
    answer = await post(await started(model=SearchingModel()), pcm(0.4), response_format="verbose_json", **fields)
    assert answer.json()["language"] == language
    assert answer.headers.get("x-ignored-parameters") == (", ".join(name.rstrip("[]") for name in fields) or None)


@pytest.mark.parametrize(
    ("data", "status", "retry"),
    [(b"", 400, None), (NOT_AUDIO, 400, "false"), (KILLS_DECODER, 500, "false")],
)
async def test_tells_clients_not_to_send_a_bad_recording_again(data: bytes, status: int, retry: str | None) -> None:
    answer = await post(await started(), data)
    assert (answer.status_code, answer.headers.get("x-should-retry")) == (status, retry)


@pytest.mark.leaping_clock
@pytest.mark.parametrize("stream", ["false", "true"])
async def test_tells_clients_not_to_repeat_work_that_took_too_long(stream: str) -> None:
    # Sooner than a stream gives its first sign of life, and with it its status.
    answer = await post(await started(model=GatedModel(), timeout_s=5), pcm(1), stream=stream)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    assert "retry-after" not in answer.headers


async def test_tells_clients_to_come_back_when_overloaded() -> None:
    answer = await post(await started(model=FailingModel(OverloadedError("Full.", retry_after_s=1.2))), pcm(1))
    assert answer.json()["error"] == {"message": "Full.", "type": "server_error", "param": None, "code": "overloaded"}
    assert answer.headers["retry-after"] == "2"
    assert "x-should-retry" not in answer.headers


async def test_other_errors_below_v1_have_openais_envelope() -> None:
    async with (await started()).client() as client:
        nowhere = await client.get("/v1/nowhere")
        wrong_method = await client.get(PATH)
    assert nowhere.status_code == 404
    assert nowhere.json()["error"]["code"] == "not_found"
    assert set(nowhere.json()["error"]) == {"message", "type", "param", "code"}
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")


async def test_is_not_ready_while_the_model_loads() -> None:
    async with World().client() as client:
        answer = await client.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/audio"])
async def test_every_path_below_v1_has_openais_envelope(path: str) -> None:
    async with (await started()).client() as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("response_format", "body"),
    [
        ("text", "This text comes\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:01,100\nThis text comes\n\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.100\nThis text comes\n\n"),
        ("json", '{"text":"This text comes"}'),
    ],
)
async def test_english_is_translated_by_writing_it(response_format: str, body: str) -> None:
    answer = await post_to(TRANSLATIONS, await started(), pcm(1.2), response_format=response_format, prompt="x")
    assert answer.text == body
    assert answer.headers["x-ignored-parameters"] == "prompt"


async def test_a_verbose_translation_is_english() -> None:
    model = SearchingModel()
    answer = await post_to(
        TRANSLATIONS, await started(model=model), pcm(0.4), response_format="verbose_json", language="en-US"
    )
    body = answer.json()
    assert {name: body[name] for name in ("task", "language", "duration", "text")} == {
        "task": "translate",
        "language": "english",
        "duration": 0.4,
        "text": "This",
    }
    assert [segment["text"] for segment in body["segments"]] == [" This"]


@pytest.mark.parametrize(
    ("languages", "given"), [(("en", "de"), ""), (("en", "de"), "de"), (("en",), "fr"), (("de",), ""), (("de",), "en")]
)
async def test_other_languages_are_not_translated(languages: tuple[str, ...], given: str) -> None:
    model = SearchingModel(languages)
    answer = await post_to(TRANSLATIONS, await started(model=model), pcm(0.4), language=given)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "language")
    assert not model.asked


async def test_channels_are_the_speakers_of_diarized_json() -> None:
    world = await started()
    world.decoder.channels = 2
    answer = await post(world, call(), channels="separate", response_format="diarized_json")
    parsed = TranscriptionDiarized.model_validate(answer.json(), strict=True)
    assert [(one.speaker, one.text, one.id) for one in parsed.segments] == [
        ("A", "This text", "seg_0"),
        ("B", "from a", "seg_1"),
    ]
    assert (parsed.text, parsed.duration) == ("This text from a", 2.8)


async def test_channels_stand_on_words_segments_and_captions() -> None:
    world = await started()
    world.decoder.channels = 2
    asked: dict[str, str | list[str]] = {
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word", "segment"],
    }
    body = (await post(world, call(), channels="separate", **asked)).json()
    assert [one["channel"] for one in body["words"]] == [0, 0, 1, 1]
    assert [one["channel"] for one in body["segments"]] == [0, 1]
    captions = (await post(world, call(), channels="separate", response_format="srt")).text
    assert (captions.count("This text"), captions.count("from a")) == (1, 1)
    assert "channel" not in (await post(world, call(), **asked)).json()["words"][0]


async def test_translations_know_no_other_formats() -> None:
    answer = await post_to(TRANSLATIONS, await started(), pcm(0.4), response_format="diarized_json")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")


async def test_a_translation_is_of_the_loaded_model() -> None:
    assert (await post_to(TRANSLATIONS, await started(), pcm(0.4), model="other")).status_code == 404


@pytest.mark.leaping_clock
async def test_pages_may_read_whether_to_send_again() -> None:
    world = await started(model=GatedModel(), timeout_s=120, settings=a_settings(allowed_origins="https://app.example"))
    async with world.client(origin="https://app.example") as client:
        answer = await client.post(PATH, files={"file": pcm(1)}, data={"model": "whisper-1"})
    assert answer.headers["x-should-retry"] == "false"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-should-retry", "x-ignored-parameters"} <= set(exposed)


@pytest.mark.parametrize(
    "language", ["auto", "AUTO", "null", "und", "undefined", "multi", "", "eng", "English", "en-US"]
)
async def test_a_language_that_is_not_said_or_called_otherwise_is_fine(language: str) -> None:
    world = await started()
    for fields in ({"language": language}, {"languages": language}, {"languages[]": language}):
        answer = await post(world, pcm(0.4), **fields)
        assert (answer.status_code, answer.json()["text"]) == (200, "This"), fields
        assert "language" not in answer.headers.get("x-ignored-parameters", "")


async def test_milliseconds_beyond_reason_are_refused() -> None:
    world = await started()
    huge = "1" + "0" * 320
    plain = {"chunking_strategy": f'{{"type": "server_vad", "silence_duration_ms": {huge}}}'}
    bracketed = {"chunking_strategy[type]": "server_vad", "chunking_strategy[prefix_padding_ms]": huge}
    for fields in (plain, bracketed):
        answer = await post(world, pcm(0.4), **fields)
        assert answer.status_code == 400
    async with world.client() as client:
        for name in ("silence_duration_ms", "prefix_padding_ms", "idle_timeout_ms"):
            session = f'{{"audio": {{"input": {{"turn_detection": {{"type": "server_vad", "{name}": {huge}}}}}}}}}'
            content, kind = f'{{"session": {session}}}', {"content-type": "application/json"}
            answer = await client.post("/v1/realtime/client_secrets", content=content, headers=kind)
            assert answer.status_code == 400, name


async def test_names_the_file_that_cannot_be_decoded() -> None:
    answer = await post(await started(), NOT_AUDIO)
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "file")
