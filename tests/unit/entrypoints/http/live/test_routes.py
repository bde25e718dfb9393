import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import RecognitionStream, StreamContext
from parakeet_service.entrypoints.http.guards.websocket_gateway import is_allowed_origin
from parakeet_service.entrypoints.http.live.schemas import FRAME_BYTES
from tests.fakes import FailingStream
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import LiveClient, Message, World, a_settings, pcm, started

EMPTY_FINAL: Message = {"type": "final", "text": "", "start": None, "end": None, "words": []}


def texts(messages: list[Message], kind: str) -> list[str]:
    return [message["text"] for message in messages if message["type"] == kind]


async def test_is_ready_and_says_what_it_takes() -> None:
    async with (await started()).live({"x-request-id": "r1"}) as client:
        assert await client.ready() == {
            "type": "ready",
            "session_id": "r1",
            "sample_rate": 16000,
            "limits": {
                "frame_bytes": FRAME_BYTES,
                "window_s": 120.0,
                "encodings": ["pcm_s16le", "pcm_f32le", "mulaw", "alaw"],
                "languages": ["en"],
            },
        }


@pytest.mark.parametrize("option", ["sample_rate", "encoding", "language", "words", "chunk_s", "endpoint_silence_ms"])
async def test_null_is_an_option_that_was_left_out(option: str) -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "config", option: None})
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (heard[-1]["type"], code) == ("final", 1000)


async def test_tells_what_is_said_while_it_is_said() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.5))
        assert await client.hear() == {"type": "speech_started", "at": 0.0}
        first = await client.hear()
        assert first == {
            "type": "partial",
            "text": "This",
            "draft": "This",
            "start": 0.0,
            "end": 0.3,
            "lag_ms": 0,
        }
        await client.say(pcm(0.5))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert code == 1000
    assert heard[-2:] == [
        {"type": "speech_stopped", "at": 0.7},
        {
            "type": "final",
            "text": "This text",
            "start": 0.0,
            "end": 0.7,
            "words": [{"text": "This", "start": 0.0, "end": 0.3}, {"text": "text", "start": 0.4, "end": 0.7}],
            "utterance": 0,
        },
    ]


async def test_what_is_not_draft_never_changes_again() -> None:
    async with (await started()).live() as client:
        await client.ready()
        for _ in range(10):
            await client.say(pcm(0.5))
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    partials = [message for message in heard if message["type"] == "partial"]
    stable = ""
    for partial in partials:
        assert partial["text"].endswith(partial["draft"])
        now = partial["text"][: len(partial["text"]) - len(partial["draft"])]
        assert now.startswith(stable)
        stable = now
    assert stable
    assert texts(heard, "final")[-1].startswith(stable)


@pytest.mark.parametrize("piece", [1, 333, 2048, 64_000])
async def test_frames_may_be_split_anywhere(piece: int) -> None:
    data = pcm(0.5) if piece == 1 else pcm(3)
    async with (await started()).live() as client:
        await client.ready()
        speaking = asyncio.create_task(say_in_pieces(client, data, piece))
        heard, code = await client.hear_until_close()
        await speaking
    whole = "This" if piece == 1 else "This text comes from a script. Nobody"
    assert (texts(heard, "final"), code) == ([whole], 1000)


async def say_in_pieces(client: LiveClient, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        await client.say(data[at : at + piece])
    await client.say({"type": "close"})


async def test_a_pause_ends_an_utterance() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(1.2) + pcm(2, level=0) + pcm(0.4))
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    finals = [message for message in heard if message["type"] == "final"]
    assert [(final["text"], final["utterance"]) for final in finals] == [("This text comes", 0), ("to", 1)]
    kinds = [message["type"] for message in heard if message["type"] != "partial"]
    assert kinds == ["speech_started", "speech_stopped", "final"] * 2


async def test_clear_forgets_what_was_said() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.8))
        await client.say({"type": "clear"})
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    at = heard.index({"type": "cleared"})
    assert texts(heard[:at], "final") == []
    assert (texts(heard[at:], "final"), code) == (["This"], 1000)


async def test_finalize_answers_a_final_and_goes_on() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.4))
        await client.say({"type": "finalize"})
        assert [(await client.hear())["type"] for _ in range(3)] == ["speech_started", "speech_stopped", "final"]
        await client.say({"type": "keepalive"})
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == (["text"], 1000)


@pytest.mark.parametrize("said", ["finalize", "close"])
async def test_where_nothing_was_said_the_final_is_empty(said: str) -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": said})
        assert await client.hear() == EMPTY_FINAL | {"utterance": 0}


async def test_half_a_sample_at_the_close_is_ignored() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.4) + b"\x01")
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == (["This"], 1000)


async def test_what_comes_after_the_close_is_ignored() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "close"})
        await client.say(pcm(5))
        await client.say("not json")
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == ([""], 1000)


async def test_config_changes_what_is_sent_and_what_is_answered() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "config", "sample_rate": 8000, "encoding": "mulaw", "words": True, "language": "en"})
        await client.say(b"\x00" * 4400)
        assert (await client.hear())["type"] == "speech_started"
        partial = await client.hear()
        assert partial["words"] == [{"text": "This", "start": 0.0, "end": 0.3}]
        await client.say(b"\x00" * 3600)
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    assert texts(heard, "final") == ["This text"]


@pytest.mark.parametrize("language", ["en", "en-US", "en_GB", "English", ""])
async def test_a_language_may_be_called_by_any_of_its_names(language: str) -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "config", "language": language})
        await client.say({"type": "close"})
        assert (await client.hear_until_close())[1] == 1000


async def test_config_sets_the_pace() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(
            {
                "type": "config",
                "left_context_s": 0,
                "chunk_s": 2,
                "right_context_s": 0,
                "endpoint_silence_ms": 3000,
            }
        )
        await client.say(pcm(2.0) + pcm(2.0, level=0))
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    # One partial for the only step with speech; the pause is too short to end the utterance before the close does.
    assert [message["type"] for message in heard] == ["speech_started", "partial", "speech_stopped", "final"]


async def test_config_takes_no_second_place() -> None:
    world = await started(model=ScriptedModel(max_streams=1))
    async with world.live() as client:
        await client.ready()
        await client.say({"type": "config", "words": True})
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        assert (await client.hear_until_close())[1] == 1000


@pytest.mark.parametrize(
    ("config", "code", "close_code", "param"),
    [
        ({"sample_rate": 4000}, "invalid_request", 1008, "sample_rate"),
        ({"sample_rate": "fast"}, "invalid_request", 1008, "config.sample_rate"),
        ({"encoding": "opus"}, "invalid_request", 1008, "config.encoding"),
        ({"language": "fr"}, "invalid_request", 1008, "language"),
        ({"chunk_s": 0}, "invalid_request", 1008, "chunk_s"),
        ({"left_context_s": 1000}, "invalid_request", 1008, "left_context_s"),
        ({"endpoint_silence_ms": 1}, "invalid_request", 1008, "endpoint_silence_ms"),
    ],
)
async def test_refuses_a_config_that_it_cannot_meet(config: Message, code: str, close_code: int, param: str) -> None:
    world = await started()
    async with world.live() as client:
        await client.ready()
        await client.say({"type": "config", **config})
        (error,), closed = await client.hear_until_close()
    assert (error["type"], error["code"], closed) == ("error", code, close_code)
    assert error["param"] == param.removeprefix("config.")
    assert error["limits"]["frame_bytes"] == FRAME_BYTES
    assert world.model.open_streams == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("hello", "A text message must be a command in JSON: config, "),
        ("", "A text message must be a command in JSON: config, "),
        ("[1]", "A command is a JSON object with a type: config, "),
        ("{}", "A command is a JSON object with a type: config, "),
        ('"close"', "A command is a JSON object with a type: config, "),
        ("1e999", "A command is a JSON object with a type: config, "),
        ('{"type": "CloseStream"}', "Unknown command 'CloseStream'; there are: config, "),
        ('{"type": ["close"]}', "Unknown command \"['close']\"; there are: config, "),
        ('{"eof": 1}', "A command is a JSON object with a type: config, "),
        ('{"type": "close", "now": true}', "close has no field 'now'; it takes no other field than type."),
        ('{"type": "config", "sampel_rate": 8000}', "config has no field 'sampel_rate'; it takes chunk_s, "),
        ('{"type": "config"}', "config must come before audio and other commands; it changes nothing now."),
    ],
)
async def test_what_it_does_not_understand_is_said_and_costs_no_words(said: str, reason: str) -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.4))
        await client.say(said)
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    (error,) = [message for message in heard if message["type"] == "error"]
    assert error["code"] == "protocol_error"
    assert error["message"].startswith(reason)
    assert error["limits"]["frame_bytes"] == FRAME_BYTES
    assert (texts(heard, "final"), code) == (["This text"], 1000)


async def test_a_config_that_was_misspelt_may_be_sent_again() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "config", "sampel_rate": 8000})
        assert (await client.hear())["param"] == "sampel_rate"
        await client.say({"type": "config", "sample_rate": 8000})
        await client.say(pcm(0.2))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == (["This"], 1000)


WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm" + bytes(5000)


@pytest.mark.parametrize("piece", [1, 10_000])
async def test_bytes_that_are_no_pcm_are_named(piece: int) -> None:
    world = await started()
    async with world.live() as client:
        await client.ready()
        await say_in_pieces(client, WEBM[:100], piece)
        heard, code = await client.hear_until_close()
    assert (heard[-1]["code"], code) == ("undecodable_audio", 1003)
    assert "WebM" in heard[-1]["message"]
    assert "pcm_s16le at 16000 Hz" in heard[-1]["message"]
    assert world.model.open_streams == 0


async def test_what_fails_in_the_middle_is_told_after_what_was_said() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.4))
        await client.say(b"\0" * (FRAME_BYTES + 1))
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), heard[-1]["code"], code) == (["This"], "frame_too_large", 1009)


@pytest.mark.leaping_clock
async def test_who_stops_sending_gets_the_final_by_the_clock() -> None:
    async with (await started(settings=a_settings(stream_idle=60))).live() as client:
        await client.ready()
        began_s = asyncio.get_running_loop().time()
        await client.say(pcm(0.4))
        while (await client.hear())["type"] != "final":
            pass
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(2.5, abs=0.2)
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == (["text"], 1000)


@pytest.mark.leaping_clock
async def test_keepalives_are_no_audio_and_put_off_no_final() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(pcm(0.4))
        for _ in range(3):
            await asyncio.sleep(1)
            await client.say({"type": "keepalive"})
        heard = [await client.hear() for _ in range(4)]
    assert texts(heard, "final") == ["This"]


@pytest.mark.leaping_clock
async def test_bursts_of_two_seconds_are_one_utterance() -> None:
    async with (await started()).live() as client:
        await client.ready()
        for _ in range(3):
            await client.say(pcm(0.4))
            await asyncio.sleep(2)
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    assert texts(heard, "final") == ["This text comes"]


@pytest.mark.leaping_clock
async def test_a_longer_pause_of_the_session_is_waited_for() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say({"type": "config", "endpoint_silence_ms": 8000})
        await client.say(pcm(0.4))
        await asyncio.sleep(7)
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, _ = await client.hear_until_close()
    assert texts(heard, "final") == ["This text"]


@pytest.mark.parametrize("said", [b"\0" * (FRAME_BYTES + 1), "x" * (FRAME_BYTES + 1)])
async def test_refuses_a_frame_that_is_too_big(said: bytes | str) -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(said)
        (error,), code = await client.hear_until_close()
    assert (error["code"], error["limit_bytes"], code) == ("frame_too_large", FRAME_BYTES, 1009)


async def test_takes_the_biggest_frame() -> None:
    async with (await started()).live() as client:
        await client.ready()
        await client.say(b"\0" * FRAME_BYTES)
        await client.say({"type": "close"})
        assert (await client.hear_until_close())[1] == 1000


async def test_says_when_to_come_back_if_every_stream_is_taken() -> None:
    world = await started(model=ScriptedModel(max_streams=1))
    async with world.live() as first, world.live() as second:
        await first.ready()
        await second.accepted()
        (error,), code = await second.hear_until_close()
    assert (error["code"], error["retry_after_ms"], code) == ("too_many_streams", 5000, 1013)
    assert set(error) == {"type", "code", "message", "retry_after_ms"}


async def test_says_when_to_come_back_if_the_model_is_loading() -> None:
    async with World().live() as client:
        await client.accepted()
        (error,), code = await client.hear_until_close()
    assert (error["code"], error["retry_after_ms"], code) == ("model_not_ready", 1000, 1013)


class Breaks(ScriptedModel):
    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator[RecognitionStream]:
        async with super().open_stream(context):
            yield FailingStream()


async def test_a_fault_of_the_model_closes_with_1011() -> None:
    world = await started(model=Breaks())
    async with world.live() as client:
        await client.ready()
        await client.say(pcm(0.5))
        (error,), code = await client.hear_until_close()
    assert (error["code"], code) == ("inference_failed", 1011)
    assert "limits" not in error
    assert world.model.open_streams == 0


class Defective(ScriptedModel):
    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator[RecognitionStream]:
        if context:
            raise ZeroDivisionError
        yield FailingStream()


async def test_a_defect_closes_with_1011_and_is_logged() -> None:
    world = await started(model=Defective())
    with capture_logs() as lines:
        async with world.live() as client:
            await client.accepted()
            assert await client.hear_until_close() == ([], 1011)
    assert [line["log_level"] for line in lines] == ["error", "info"]
    assert (lines[-1]["status"], lines[-1]["code"]) == (1011, "internal_error")


async def test_fifty_clients_that_vanish_leave_every_place_free() -> None:
    world = await started(model=ScriptedModel(max_streams=2))
    with capture_logs() as lines:
        for at in range(50):
            async with world.live() as client:
                await client.ready()
                if at % 2:
                    await client.say(pcm(0.5))
                    await client.hear()
                if at % 5 == 0:
                    await client.say({"type": "close"})
                if at % 7 == 0:
                    await client.say(pcm(60))
            assert world.model.open_streams == 0
    assert [line["status"] for line in lines] == [1006] * 50
    assert {line["log_level"] for line in lines} == {"info"}


@pytest.mark.leaping_clock
async def test_a_client_that_does_not_read_is_dropped() -> None:
    world = await started(send_timeout_s=30)
    with capture_logs() as lines:
        async with world.live() as client:
            await client.ready()
            client.reads.clear()
            await client.say(pcm(0.5))
            await asyncio.wait((client.task,))
            assert world.model.open_streams == 0
    assert [(line["event"], line["code"]) for line in lines] == [("session", "client_does_not_read")]


async def test_logs_one_line_for_a_session() -> None:
    world = await started()
    with capture_logs() as lines:
        async with world.live() as client:
            await client.ready()
            await client.say(pcm(1.2))
            await client.say({"type": "close"})
            await client.hear_until_close()
    (line,) = lines
    assert (line["event"], line["route"], line["status"]) == ("session", "/ws", 1000)
    assert (line["audio_s"], line["utterances"]) == (1.2, 1)
    assert "This" not in str(line)


async def test_the_line_of_a_client_that_left_says_so() -> None:
    world = await started()
    with capture_logs() as lines:
        async with world.live() as client:
            await client.ready()
    (line,) = lines
    assert (line["status"], line["client_left"], line["log_level"]) == (1006, True, "info")


@pytest.mark.parametrize(
    ("origin", "allowed", "welcome"),
    [
        (None, (), True),
        ("http://service", (), True),
        ("https://SERVICE", (), True),
        ("http://service:81", (), False),
        ("https://app.example", (), False),
        ("https://app.example", ("https://app.example",), True),
        ("https://app.example.evil", ("https://app.example",), False),
        ("https://app.example", ("*",), True),
        ("null", (), False),
        ("", (), False),
    ],
)
def test_lets_pages_of_our_own_and_of_allowed_origins_in(
    origin: str | None,
    allowed: tuple[str, ...],
    welcome: bool,  # noqa: FBT001
) -> None:
    assert is_allowed_origin(origin, host="service", allowed=allowed) is welcome


def test_no_origin_is_that_of_a_missing_host() -> None:
    assert not is_allowed_origin("null", host="", allowed=())


async def test_refuses_a_page_of_another_origin_before_it_connects() -> None:
    async with (await started()).live({"origin": "https://evil.example"}) as client:
        message = await client.next()
    assert (message["type"], message["status"]) == ("websocket.http.response.start", 403)


async def test_closes_on_a_page_of_another_origin_where_no_answer_can_be_sent() -> None:
    async with (await started()).live({"origin": "https://evil.example"}, denial=False) as client:
        message = await client.next()
    assert (message["type"], message["code"]) == ("websocket.close", 1008)


async def test_lets_a_page_of_an_allowed_origin_in() -> None:
    world = await started(settings=a_settings(allowed_origins="https://app.example"))
    async with world.live({"origin": "https://app.example"}) as client:
        await client.ready()


@pytest.mark.leaping_clock
async def test_who_says_nothing_is_told_what_it_said_and_gives_its_place_back() -> None:
    world = await started(settings=a_settings(stream_idle=60))
    async with world.live() as client:
        await client.ready()
        await client.say(pcm(0.4))
        heard, code = await client.hear_until_close()
    # The first by the clock; the last one says that nothing followed it.
    assert texts(heard, "final") == ["This", ""]
    assert (heard[-1]["type"], heard[-1]["code"], code) == ("error", "session_idle", 1008)
    assert heard[-1]["limit_s"] == 60


@pytest.mark.leaping_clock
async def test_so_is_who_never_said_anything() -> None:
    world = await started(settings=a_settings(stream_idle=60))
    async with world.live() as client:
        await client.ready()
        heard, code = await client.hear_until_close()
    assert (heard[-1]["code"], code) == ("session_idle", 1008)


@pytest.mark.leaping_clock
async def test_a_sign_of_life_keeps_the_place() -> None:
    world = await started(settings=a_settings(stream_idle=60))
    async with world.live() as client:
        await client.ready()
        for _ in range(5):
            await asyncio.sleep(40)
            await client.say({"type": "keepalive"})
        await client.say(pcm(0.4))
        await client.say({"type": "close"})
        heard, code = await client.hear_until_close()
    assert (texts(heard, "final"), code) == (["This"], 1000)
