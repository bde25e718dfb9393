import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import GREEDY, Decoding, RecognitionStream, StreamContext
from parakeet_service.entrypoints.http.openai.realtime.schemas import FRAME_BYTES, MOST_BASE64
from tests.fakes import FailingStream, LoudnessVad
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.http.openai.realtime.client import Speaker, silence, speaker, voice
from tests.unit.entrypoints.http.openai.realtime.test_turns import follow
from tests.unit.entrypoints.world import Message, World, a_settings, started

COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMIT, CLEAR = "input_audio_buffer.commit", "input_audio_buffer.clear"


OF_TURNS = (
    "input_audio_buffer.",
    "conversation.item.input_audio",
    *(f"conversation.item.{kind}" for kind in ("created", "added", "done")),
)


async def a_world(**given: Any) -> World:
    return await started(live_detector=LoudnessVad(), **given)


async def test_a_turn_ends_where_nobody_speaks() -> None:
    async with speaker(await a_world()) as one:
        await one.speak(voice(1.2), silence(1.2), voice(0.8), silence(1.0))
        await one.hear_until(COMPLETED)
        await one.hear_until(COMPLETED)
    turn = ["speech_started", "speech_stopped", "committed", "item.created", "item.added", "item.done", "completed"]
    assert one.kinds == ["session.created", *turn, *turn]
    assert one.transcripts == ["This text comes"] * 2
    started_ms = [message["audio_start_ms"] for message in one.of("speech_started")]
    stopped_ms = [message["audio_end_ms"] for message in one.of("speech_stopped")]
    assert started_ms == [0, pytest.approx(2100, abs=100)]
    assert stopped_ms == pytest.approx([1200, 3200], abs=100)
    follow([message for message in one.heard if message["type"].startswith(OF_TURNS)])


@pytest.mark.leaping_clock
async def test_a_turn_ends_where_nothing_is_sent_any_more() -> None:
    async with speaker(await a_world()) as one:
        await one.speak(voice(1.2))
        await one.hear_until(COMPLETED)
    assert one.transcripts == ["This text comes"]
    assert len(one.of("speech_stopped")) == 1


async def test_greets_with_what_is_in_force_by_its_own_name() -> None:
    async with speaker(await a_world(), headers={"x-request-id": "r1"}) as one:
        session = one.heard[0]["session"]
    assert (session["id"], session["type"], session["expires_at"]) == ("sess_r1", "transcription", None)
    assert session["audio"]["input"]["transcription"]["model"] == "scripted"


async def test_answers_every_update_even_an_empty_one() -> None:
    async with speaker(await a_world()) as one:
        for _ in range(3):
            await one.update()
        await one.say("session.update", session={})
        await one.hear_until("session.updated")


async def test_the_client_may_end_turns() -> None:
    async with speaker(await a_world()) as one:
        await one.update(turn_detection=None)
        await one.speak(voice(1.2), silence(3.0), voice(0.8), silence(0.5))
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
        assert done["usage"] == {"type": "duration", "seconds": 5.5}
        await one.speak(silence(1.0))
        await one.say(COMMIT)
        await one.hear_until(COMPLETED)
    assert one.transcripts == ["This text comes This text comes", ""]
    assert not one.of("speech_started")
    assert not one.of("speech_stopped")
    first, second = one.of("committed")
    assert (first["previous_item_id"], second["previous_item_id"]) == (None, first["item_id"])


async def test_a_commit_of_nothing_is_harmless() -> None:
    async with speaker(await a_world()) as one:
        for detection in ({"type": "server_vad"}, None):
            await one.update(turn_detection=detection)
            await one.say(COMMIT)
            await one.say(CLEAR)
            await one.hear_until("input_audio_buffer.cleared")
            await one.say(COMMIT)
        await one.update()
    assert set(one.kinds) == {"session.created", "session.updated", "cleared"}


async def test_what_is_cleared_is_forgotten() -> None:
    async with speaker(await a_world()) as one:
        await one.update(turn_detection=None)
        await one.speak(voice(2.0))
        await one.say(CLEAR)
        await one.say(COMMIT)
        await one.hear_until("input_audio_buffer.cleared")
        await one.speak(voice(0.8))
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    assert (done["transcript"], done["usage"]["seconds"]) == ("This text", 0.8)
    follow([message for message in one.heard if message["type"].startswith(OF_TURNS)])


async def test_deltas_come_while_somebody_speaks() -> None:
    async with speaker(await a_world()) as one:
        await one.speak(voice(3.0))
        first = await one.hear_until("conversation.item.input_audio_transcription.delta")
        assert first["delta"].startswith("This text")
        assert not one.of("speech_stopped")
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    deltas = one.of("delta")
    assert len(deltas) > 2
    assert "".join(delta["delta"] for delta in deltas) == done["transcript"] == "This text comes from a script. Nobody"


async def test_probabilities_come_where_they_are_wanted() -> None:
    async with speaker(await a_world()) as one:
        await one.say("session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        await one.speak(voice(0.8))
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    assert [token["token"] for token in done["logprobs"]] == [" This", " text"]
    assert one.of("delta")[-1]["logprobs"]


@pytest.mark.parametrize(
    ("audio_format", "rate_hz", "sample"),
    [
        ({"type": "audio/pcm", "rate": 8000}, 8000, None),
        ({"type": "audio/pcm", "rate": 16000}, 16000, None),
        ({"type": "audio/pcm", "rate": 48000}, 48000, None),
        ({"type": "audio/pcmu"}, 8000, b"\x9f"),
        ({"type": "audio/pcma"}, 8000, b"\xb5"),
    ],
)
async def test_formats(audio_format: Message, rate_hz: int, sample: bytes | None) -> None:
    async with speaker(await a_world()) as one:
        await one.update(format=audio_format, turn_detection=None)
        audio = voice(1.2, rate_hz=rate_hz) if sample is None else sample * round(1.2 * rate_hz)
        await one.speak(audio)
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    assert (done["transcript"], done["usage"]["seconds"]) == ("This text comes", 1.2)


async def test_another_format_in_the_middle_ends_the_turn_and_times_go_on() -> None:
    world = await a_world()
    async with speaker(world) as one:
        await one.speak(voice(1.2))
        await one.update(format={"type": "audio/pcmu"})
        done = await one.hear_until(COMPLETED)
        assert done["transcript"] == "This text comes"
        await one.speak(b"\xff" * 8000, b"\x9f" * 6400, b"\xff" * 8000)
        await one.hear_until(COMPLETED)
        assert world.model.open_streams == 1
    assert one.of("speech_started")[1]["audio_start_ms"] == pytest.approx(1900, abs=100)
    follow([message for message in one.heard if message["type"].startswith(OF_TURNS)])


async def test_an_update_that_changes_nothing_of_the_audio_does_not_end_the_turn() -> None:
    async with speaker(await a_world()) as one:
        await one.speak(voice(1.0))
        await one.say("session.update", session={"include": ["item.input_audio_transcription.logprobs"]})
        await one.speak(voice(1.0))
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    assert len(done["logprobs"]) == len(done["transcript"].split()) == 5


async def test_the_beta_protocol_is_known_by_its_event() -> None:
    async with speaker(await a_world()) as one:
        flat = {
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": "gpt-4o-transcribe", "prompt": "", "language": "en"},
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
            "input_audio_noise_reduction": {"type": "near_field"},
            "include": ["item.input_audio_transcription.logprobs"],
        }
        await one.say("transcription_session.update", session=flat)
        session = (await one.hear_until("transcription_session.updated"))["session"]
        assert session["input_audio_format"] == "pcm16"
        assert session["turn_detection"]["threshold"] == 0.5
        await one.speak(voice(1.2), silence(1.0))
        done = await one.hear_until(COMPLETED)
    assert "languages" not in done
    assert one.kinds[2:] == ["speech_started", "speech_stopped", "committed", "item.created", "completed"]


@pytest.mark.parametrize(
    "more", [{"headers": {"openai-beta": "realtime=v1"}}, {"subprotocols": ["realtime", "openai-beta.realtime-v1"]}]
)
async def test_and_by_what_a_client_says_when_it_connects(more: dict[str, Any]) -> None:
    async with speaker(await a_world(), **more) as one:
        assert one.heard[0]["session"]["input_audio_format"] == "pcm16"
        await one.say("session.update", session={})
        assert "audio" in (await one.hear_until("session.updated"))["session"]


@pytest.mark.parametrize(
    ("said", "code", "param", "event_id"),
    [
        ("hello", "protocol_error", None, None),
        ("[]", "protocol_error", None, None),
        ("[" * 100_000, "protocol_error", None, None),
        (b"\0\0", "protocol_error", None, None),
        ({"event_id": "e1"}, "protocol_error", "type", "e1"),
        ({"type": "sing", "event_id": "e1"}, "protocol_error", "type", "e1"),
        ({"type": "response.create", "event_id": "e1"}, "protocol_error", "type", "e1"),
        ({"type": "conversation.item.truncate", "event_id": "e1"}, "protocol_error", "type", "e1"),
        ({"type": "conversation.item.delete"}, "invalid_request", "item_id", None),
        ({"type": "input_audio_buffer.append", "event_id": 7}, "invalid_request", "event_id", None),
        ({"type": "input_audio_buffer.append"}, "invalid_request", "audio", None),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_request", "audio", None),
        ({"type": "input_audio_buffer.append", "audio": "é"}, "invalid_request", "audio", None),
        ({"type": "input_audio_buffer.append", "audio": "A" * (MOST_BASE64 + 4)}, "frame_too_large", None, None),
        ("x" * (FRAME_BYTES + 1), "frame_too_large", None, None),
        ({"type": "session.update", "event_id": "e1"}, "invalid_request", "session", "e1"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "invalid_request", "session.type", None),
        (
            {"type": "session.update", "session": {"audio": {"input": {"transcription": {"model": "dall-e-3"}}}}},
            "model_not_found",
            "model",
            None,
        ),
    ],
)
async def test_says_what_it_does_not_understand_and_goes_on(
    said: Message | str | bytes, code: str, param: str | None, event_id: str | None
) -> None:
    async with speaker(await a_world()) as one:
        await one.line.say(said)
        error = await one.error()
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
        assert error["event_id"] == event_id
        await one.speak(voice(0.8))
        await one.say(COMMIT)
        assert (await one.hear_until(COMPLETED))["transcript"] == "This text"


async def test_an_item_can_be_deleted_for_none_is_kept() -> None:
    async with speaker(await a_world()) as one:
        await one.say("conversation.item.delete", item_id="item_1")
        assert (await one.hear_until("conversation.item.deleted"))["item_id"] == "item_1"


async def test_minutes_of_audio_may_come_in_one_event() -> None:
    async with speaker(await a_world()) as one:
        await one.update(turn_detection=None)
        audio = base64.b64encode(voice(120)).decode()
        await one.say("input_audio_buffer.append", audio=audio + base64.b64encode(voice(100)).decode())
        await one.say(COMMIT)
        done = await one.hear_until(COMPLETED)
    assert done["usage"]["seconds"] == 220
    assert len(done["transcript"].split()) == 550
    assert "".join(delta["delta"] for delta in one.of("delta")) == done["transcript"]


@pytest.mark.leaping_clock
async def test_silence_that_is_too_long_is_told() -> None:
    async with speaker(await a_world()) as one:
        await one.update(turn_detection={"type": "server_vad", "idle_timeout_ms": 500})
        await one.speak(voice(0.8), silence(1.0))
        await one.hear_until(COMPLETED)
        told = await one.hear_until("input_audio_buffer.timeout_triggered")
        await one.hear_until(COMPLETED)
        assert (told["audio_start_ms"], told["audio_end_ms"]) == (pytest.approx(800, abs=100), 1800)
        # Where no audio comes, none is silent.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await one.hear()
    assert one.transcripts == ["This text", ""]
    follow([message for message in one.heard if message["type"].startswith(OF_TURNS)])


async def test_two_sessions_hear_nothing_of_each_other() -> None:
    world = await a_world()
    async with speaker(world) as one, speaker(world) as other:
        await other.update(turn_detection=None, format={"type": "audio/pcmu"})
        for _ in range(4):
            await one.speak(voice(0.4))
            await other.speak(b"\xff" * 800)
        await one.say(COMMIT)
        await other.say(COMMIT)
        assert (await one.hear_until(COMPLETED))["transcript"] == "This text comes from"
        assert (await other.hear_until(COMPLETED))["transcript"] == ""
        assert one.heard[0]["session"]["audio"]["input"]["turn_detection"]
    assert not {message["event_id"] for message in one.heard} & {message["event_id"] for message in other.heard}
    assert world.model.open_streams == 0


@pytest.mark.parametrize("name", ["whisper-1", "gpt-realtime-whisper", "scripted", "parakeet", ""])
async def test_the_address_may_name_the_model(name: str) -> None:
    async with speaker(await a_world(), query=f"intent=transcription&model={name}") as one:
        transcription = one.heard[0]["session"]["audio"]["input"]["transcription"]
    assert transcription["model"] == (name or "scripted")


async def refused(world: World, query: str = "") -> tuple[Message, int]:
    async with world.live(path="/v1/realtime", query=query) as line:
        await line.accepted()
        one = Speaker(line)
        code = await one.hear_until_close()
    (error,) = one.heard
    assert error["type"] == "error"
    return error["error"], code


async def test_but_no_other_one() -> None:
    error, code = await refused(await a_world(), "model=gpt-4o-realtime-preview")
    assert (error["code"], error["param"], code) == ("model_not_found", "model", 1008)


async def test_says_when_to_come_back_if_every_stream_is_taken() -> None:
    world = await a_world(model=ScriptedModel(max_streams=1))
    async with speaker(world):
        error, code = await refused(world)
    assert (error["type"], error["code"], code) == ("server_error", "too_many_streams", 1013)
    assert error["message"].endswith("Try again in 5 s.")


async def test_says_when_to_come_back_if_the_model_is_loading() -> None:
    error, code = await refused(World())
    assert (error["code"], code) == ("model_not_ready", 1013)


class Breaks(ScriptedModel):
    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        async with super().open_stream(context, decoding=decoding):
            yield FailingStream()


async def test_a_fault_of_the_model_fails_the_turn_and_closes_with_1011() -> None:
    world = await a_world(model=Breaks())
    async with speaker(world) as one:
        await one.append(voice(1.0))
        assert await one.hear_until_close() == 1011
    assert [*one.kinds[1:3], *one.kinds[-2:]] == ["speech_started", "speech_stopped", "failed", "error"]
    assert one.heard[-1]["error"]["code"] == "inference_failed"
    assert world.model.open_streams == 0


async def test_who_goes_beyond_its_limit_hears_its_last_words_and_when_to_come_back() -> None:
    world = await a_world(settings=a_settings(audio_rate_limit="2/day"))
    async with speaker(world) as one:
        await one.speak(voice(2.0))
        await one.append(voice(0.1))
        assert await one.hear_until_close() == 1013
    assert one.transcripts == ["This text comes from a"]
    assert one.heard[-1]["error"]["code"] == "rate_limit_exceeded"
    assert one.heard[-1]["error"]["type"] == "rate_limit_error"
    async with world.live(path="/v1/realtime") as line:
        assert (await line.next())["status"] == 429


async def test_clients_that_vanish_leave_every_place_free() -> None:
    world = await a_world(model=ScriptedModel(max_streams=2))
    with capture_logs() as lines:
        for at in range(30):
            async with speaker(world) as one:
                if at % 2:
                    await one.speak(voice(0.5))
                if at % 3 == 0:
                    await one.update(turn_detection=None)
                if at % 5 == 0:
                    await one.say(COMMIT)
                if at % 7 == 0:
                    await one.append(voice(60))
            assert world.model.open_streams == 0
    assert [line["status"] for line in lines] == [1006] * 30
    assert {line["log_level"] for line in lines} == {"info"}


@pytest.mark.leaping_clock
async def test_a_client_that_does_not_read_is_dropped() -> None:
    world = await a_world(send_timeout_s=30)
    with capture_logs() as lines:
        async with speaker(world) as one:
            one.line.reads.clear()
            await one.say("session.update", session={})
            await asyncio.wait((one.line.task,))
            assert world.model.open_streams == 0
    assert [(line["event"], line["code"]) for line in lines] == [("session", "client_does_not_read")]


async def test_logs_one_line_for_a_session() -> None:
    world = await a_world()
    with capture_logs() as lines:
        async with speaker(world) as one:
            await one.speak(voice(1.2))
            await one.update(turn_detection=None)
            await one.hear_until(COMPLETED)
            await one.speak(voice(0.3))
    (line,) = lines
    assert (line["event"], line["route"], line["status"]) == ("session", "/v1/realtime", 1006)
    assert (line["audio_s"], line["utterances"]) == (1.5, 1)
    assert "This" not in str(line)


async def test_a_page_offers_its_key_as_openai_has_it() -> None:
    world = await a_world(settings=a_settings(api_keys="alice:s3cret"))
    offered = ["realtime", "openai-insecure-api-key.s3cret"]
    async with world.live(path="/v1/realtime", subprotocols=offered) as line:
        assert (await line.accepted())["subprotocol"] == "realtime"
    offered = ["realtime", "openai-insecure-api-key.wrong"]
    async with world.live(path="/v1/realtime", subprotocols=offered) as line:
        assert (await line.next())["status"] == 401


async def test_pages_of_other_origins_are_refused() -> None:
    async with (await a_world()).live({"origin": "https://evil.example"}, path="/v1/realtime") as line:
        assert (await line.next())["status"] == 403


SAID = st.one_of(
    # Loud or not, and how many tenths of a second.
    st.tuples(st.sampled_from([0, 16000]), st.integers(0, 15)),
    st.sampled_from([{"type": COMMIT}, {"type": CLEAR}, {"type": "conversation.item.delete", "item_id": "i"}]),
    st.sampled_from(
        [
            {},
            {"turn_detection": None},
            {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}},
            {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}},
            {"format": {"type": "audio/pcm", "rate": 16000}},
            {"transcription": {"delay": "minimal"}},
            {"transcription": {"language": "xx"}},
        ]
    ).map(lambda audio: {"type": "session.update", "session": {"audio": {"input": audio}}}),
    st.sampled_from(["", "{}", '{"type": "response.create"}', '{"type": "input_audio_buffer.append", "audio": 1}']),
)


@settings(max_examples=60, deadline=None, suppress_health_check=(HealthCheck.too_slow,))
@given(said=st.lists(SAID, max_size=25))
async def test_whatever_a_client_says_the_session_lives_and_can_be_followed(
    said: list[Message | str | tuple[int, int]],
) -> None:
    world = await a_world()
    async with speaker(world) as one:
        for message in said:
            if isinstance(message, tuple):
                level, tenths = message
                await one.speak(voice(tenths / 10, level=level))
            else:
                await one.line.say(message)
                await one.line.said()
        await one.update(turn_detection=None, format=None)
        await one.say(CLEAR)
        # As long as no other turn is.
        await one.speak(voice(0.237))
        await one.say(COMMIT)
        while (await one.hear_until(COMPLETED))["usage"]["seconds"] != 0.237:
            pass
    follow([message for message in one.heard if message["type"].startswith(OF_TURNS)])
    assert world.model.open_streams == 0
