"""Realtime sessions through the official client, sync, async and beta; each event is held to the client's types."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.beta.realtime import TranscriptionSession
from openai.types.realtime import ClientSecretCreateResponse

from tests.conformance.calls import Callers, callers, strictly
from tests.conformance.realtime import CLEAR, COMMIT, COMPLETED, TURN, Step, appends, talk, talk_async, update
from tests.conformance.serving import Served, make_app, served
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.http.openai.realtime.client import silence, voice
from tests.unit.entrypoints.http.openai.realtime.test_turns import follow

TURN_TYPES = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "conversation.item.added",
    "conversation.item.done",
    COMPLETED,
]
LOGPROBS: Step = {"type": "session.update", "session": {"include": ["item.input_audio_transcription.logprobs"]}}
MANUAL = update(turn_detection=None)
FLAT: Step = {
    "type": "transcription_session.update",
    "session": {
        "input_audio_format": "pcm16",
        "input_audio_transcription": {"model": "whisper-1", "language": "en"},
        "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 400},
    },
}


def test_a_turn(service: Served) -> None:
    heard = talk(service.url, [*TURN, COMPLETED])
    assert heard.types == ["session.created", *TURN_TYPES]
    assert heard.transcripts == ["This text comes"]
    assert heard.of("completed")[0]["languages"] == [{"code": "en"}]


async def test_the_async_client(service: Served) -> None:
    steps = [LOGPROBS, "session.updated", MANUAL, "session.updated", *appends(voice(4)), COMMIT, COMPLETED]
    heard = await talk_async(
        service.url,
        [*steps, *appends(voice(1)), CLEAR, "input_audio_buffer.cleared", COMMIT, MANUAL, "session.updated"],
    )
    (done,) = heard.of("completed")
    deltas = heard.of("delta")
    assert "".join(delta["delta"] for delta in deltas if delta["item_id"] == done["item_id"]) == done["transcript"]
    assert "".join(token["token"] for token in done["logprobs"]).strip() == done["transcript"]
    assert [token for delta in deltas if delta["item_id"] == done["item_id"] for token in delta["logprobs"]] == done[
        "logprobs"
    ]
    follow([event for event in heard.heard if event["type"].startswith(("input_audio", "conversation"))])


@pytest.mark.parametrize(
    "asked",
    [
        {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}},
        {"format": {"type": "audio/pcmu"}, "turn_detection": {"type": "server_vad", "threshold": 0.5}},
        {"format": {"type": "audio/pcma"}},
        {"transcription": {"model": "gpt-4o-transcribe", "language": "en", "prompt": "A talk.", "delay": "xhigh"}},
        {"transcription": {"model": "gpt-transcribe", "languages": ["en"], "keywords": ["MLX"]}},
        {"noise_reduction": {"type": "far_field", "strength": 0.5}, "turn_detection": None},
    ],
)
def test_every_setup_that_the_client_knows(service: Served, asked: dict[str, Any]) -> None:
    heard = talk(service.url, [update(**asked), "session.updated"])
    assert heard.types == ["session.created", "session.updated"]


def test_silence_and_errors_and_items(service: Served) -> None:
    idle = update(turn_detection={"type": "server_vad", "idle_timeout_ms": 500})
    steps: list[Step] = [idle, "session.updated", *appends(silence(1)), COMPLETED]
    steps += [{"type": "response.create"}, "error", {"type": "conversation.item.delete", "item_id": "item_1"}]
    heard = talk(service.url, [*steps, "conversation.item.deleted", *TURN, COMPLETED])
    assert "input_audio_buffer.timeout_triggered" in heard.types
    assert heard.transcripts[0] == ""
    assert heard.transcripts[1].startswith("This text comes")


def test_the_beta_client(service: Served) -> None:
    heard = talk(service.url, [FLAT, "transcription_session.updated", *TURN, COMPLETED], beta=True, model="whisper-1")
    assert heard.types == [
        "session.created",
        "transcription_session.updated",
        *(kind for kind in TURN_TYPES if kind not in {"conversation.item.added", "conversation.item.done"}),
    ]
    assert heard.transcripts == ["This text comes"]


def test_a_client_secret_opens_a_session_as_it_was_set_up() -> None:
    with (
        served(make_app(ScriptedModel(), api_keys="alice:s3cret")) as service,
        callers(service.url, key="s3cret") as client,
    ):
        made = client.sync.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}},
        )
        secret = strictly(ClientSecretCreateResponse, made.to_json())
        heard = talk(service.url, [], key=secret.value)
        assert heard.heard[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        strictly(ClientSecretCreateResponse, client.sync.realtime.client_secrets.create().to_json())

        flat = client.sync.beta.realtime.transcription_sessions.create(
            input_audio_format="g711_alaw", input_audio_transcription={"model": "whisper-1"}
        )
        held = strictly(TranscriptionSession, flat.to_json())
        heard = talk(service.url, [], key=held.client_secret.value)
        assert heard.heard[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcma"}

        with callers(service.url, key=secret.value) as page, pytest.raises(openai.AuthenticationError):
            page.sync.models.list()
        with pytest.raises(Exception, match="401"):
            talk(service.url, [], key=secret.value + "x")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"session": {"type": "realtime"}}, "session.type"),
        ({"session": {"type": "transcription", "audio": {"input": {"transcription": {"model": "x"}}}}}, "model"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
    ],
)
def test_a_secret_for_what_cannot_be_is_not_made(client: Callers, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.sync.realtime.client_secrets.create(**asked)
    assert (caught.value.status_code, caught.value.param) == (404 if param == "model" else 400, param)


def test_a_session_that_cannot_be_had_says_why() -> None:
    with served(make_app(ScriptedModel(), loaded=False)) as service:
        heard = talk(service.url, [])
    assert (heard.heard[-1]["error"]["code"], heard.code) == ("model_not_ready", 1013)


async def test_many_sessions_at_once_hear_each_its_own(service: Served) -> None:
    steps: list[Step] = [MANUAL, "session.updated"]
    talks = [talk_async(service.url, [*steps, *appends(voice(0.8 * n)), COMMIT, COMPLETED]) for n in range(1, 9)]
    heard = await asyncio.gather(*talks)
    assert [len(one.transcripts[0].split()) for one in heard] == [2 * n for n in range(1, 9)]
