import asyncio
import struct
from typing import Any

import numpy as np
import pytest
from deepgram.listen.v1.types import (
    ListenV1ConfigureFailure,
    ListenV1ConfigureSuccess,
    ListenV1Error,
    ListenV1Metadata,
    ListenV1Results,
    ListenV1SpeechStarted,
    ListenV1UtteranceEnd,
)
from pydantic import BaseModel

from parakeet_service.application.ports.speech_model import GREEDY, Decoding
from tests.fakes import FailingStream, LoudnessVad, SearchingModel
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import LiveClient, Message, World, a_settings, started
from tests.unit.entrypoints.world import pcm as pcm_at

TYPES: dict[str, type[BaseModel]] = {
    "ConfigureFailure": ListenV1ConfigureFailure,
    "ConfigureSuccess": ListenV1ConfigureSuccess,
    "Error": ListenV1Error,
    "Metadata": ListenV1Metadata,
    "Results": ListenV1Results,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
}
RAW = "model=nova-3&encoding=linear16&sample_rate=16000"
CLOSE = {"type": "CloseStream"}


def pcm(seconds: float, *, level: int = 16_000) -> bytes:
    """Loud enough for the detector."""
    return pcm_at(seconds, level=level)


SILENCE = pcm(1, level=0)


def checked(messages: list[Message]) -> list[Message]:
    """The messages, each of which the SDK's types take without exception."""
    for message in messages:
        TYPES[message["type"]].model_validate(message)
    return messages


async def numbers(**given: Any) -> World:
    """Words of a second, of which three quarters are spoken; pauses are heard."""
    model = ScriptedModel(script="One two. Three four.", words_per_s=1)
    return await started(**{"model": model, "live_detector": LoudnessVad(), **given})


async def talk(world: World, query: str, *said: bytes | str | Message) -> tuple[list[Message], int]:
    async with world.live(path="/v1/listen", query=query) as client:
        await client.accepted()
        for one in said:
            await client.say(one)
            await client.said()
        heard, code = await client.hear_until_close()
    return checked(heard), code


def told(messages: list[Message]) -> list[tuple[Any, ...]]:
    """What matters of the results, and the types of the others."""
    return [
        (text_of(one), one["is_final"], one["speech_final"], one["from_finalize"])
        if one["type"] == "Results"
        else (one["type"],)
        for one in messages
    ]


def text_of(results: Message) -> str:
    (alternative,) = results["channel"]["alternatives"]
    return str(alternative["transcript"])


async def test_a_pause_ends_what_is_said_and_the_end_tells_of_all() -> None:
    heard, code = await talk(await numbers(), RAW, pcm(1.75), SILENCE, SILENCE, pcm(0.75), CLOSE)
    assert told(heard) == [
        ("One two.", True, True, False),
        # The scripted model begins anew after a pause.
        ("One", True, False, False),
        ("Metadata",),
    ]
    assert code == 1000
    first, second, metadata = heard
    assert first["start"] == 0
    assert first["start"] + first["duration"] == second["start"]
    assert first["channel_index"] == [0, 1]
    assert first["channel"]["alternatives"][0]["words"] == [
        {"word": "one", "start": 0.0, "end": 0.75, "confidence": 0.99, "punctuated_word": "One"},
        {"word": "two", "start": 1.0, "end": 1.75, "confidence": 0.99, "punctuated_word": "two."},
    ]
    assert first["metadata"]["request_id"] == metadata["request_id"]
    assert first["metadata"]["model_info"] == {"name": "scripted", "version": "none", "arch": "script"}
    assert (metadata["duration"], metadata["channels"], len(metadata["sha256"])) == (4.5, 1, 64)


async def test_interim_results_are_told_to_who_asks() -> None:
    heard, _ = await talk(await numbers(), f"{RAW}&interim_results=true", pcm(0.8), pcm(1), CLOSE)
    *interim, final, metadata = told(heard)
    # How many there are depends on when the model's turn comes.
    assert interim
    assert set(interim) <= {("One", False, False, False), ("One two.", False, False, False)}
    assert (final, metadata) == (("One two.", True, False, False), ("Metadata",))


async def test_speech_and_silence_are_told_to_who_asks() -> None:
    query = f"{RAW}&interim_results=true&utterance_end_ms=1000&vad_events=true&endpointing=25"
    said: list[bytes | Message] = [pcm(1.75), *[pcm(0.25, level=0)] * 8, pcm(0.75), CLOSE]
    heard, _ = await talk(await numbers(), query, *said)
    kinds = [one[0] for one in told(heard) if one[1:2] != (False,)]
    assert kinds == ["SpeechStarted", "One two.", "UtteranceEnd", "SpeechStarted", "One", "Metadata"]
    starts = [one["timestamp"] for one in heard if one["type"] == "SpeechStarted"]
    assert starts == [0.0, pytest.approx(3.65)]
    (end,) = [one for one in heard if one["type"] == "UtteranceEnd"]
    assert (end["channel"], end["last_word_end"]) == ([0, 1], 1.75)


async def test_endpointing_may_be_switched_off() -> None:
    heard, _ = await talk(await numbers(), f"{RAW}&endpointing=false", pcm(1.75), SILENCE, SILENCE, CLOSE)
    assert told(heard) == [("One two.", True, False, False), ("Metadata",)]


@pytest.mark.parametrize("endpointing", ["10", "true", "300"])
async def test_endpointing_is_never_so_short_that_words_fall_apart(endpointing: str) -> None:
    # The pauses between these words last a quarter of a second.
    words = b"".join(pcm(0.75) + pcm(0.25, level=0) for _ in range(2))
    heard, _ = await talk(await numbers(), f"{RAW}&endpointing={endpointing}", words, SILENCE, CLOSE)
    assert told(heard) == [("One two.", True, True, False), ("Metadata",)]


async def test_every_finalize_is_answered_once() -> None:
    finalize = {"type": "Finalize", "channel": 0}
    heard, _ = await talk(await numbers(), RAW, finalize, pcm(0.75), finalize, {"type": "Finalize"}, pcm(1), CLOSE)
    assert told(heard) == [
        ("", True, False, True),
        ("One", True, True, True),
        ("", True, False, True),
        ("two.", True, False, False),
        ("Metadata",),
    ]
    assert heard[0]["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]


async def test_text_may_be_bare() -> None:
    heard, _ = await talk(await numbers(), f"{RAW}&punctuate=false", pcm(1.75), CLOSE)
    assert text_of(heard[0]) == "one two"
    assert "punctuated_word" not in heard[0]["channel"]["alternatives"][0]["words"][0]


async def test_terms_and_text_can_be_changed_while_it_goes_on() -> None:
    model = SearchingModel(("en",))
    said: list[bytes | Message] = [
        pcm(0.5),
        {"type": "Configure", "keyterms": ["Kowalski"], "features": {"punctuate": False, "numerals": False}},
        pcm(0.5),
        {"type": "Configure", "features": {"punctuate": True}},
        {"type": "Configure", "keyterms": ["Kowalski"]},
        CLOSE,
    ]
    heard, code = await talk(await started(model=model), f"{RAW}&keyterm=New+York&keywords=Ada:2", *said)
    kinds = [one[0] for one in told(heard)]
    assert (kinds, code) == (
        ["This", "ConfigureSuccess", "ConfigureSuccess", "ConfigureSuccess", "This", "Metadata"],
        1000,
    )
    successes = [one for one in heard if one["type"] == "ConfigureSuccess"]
    assert [one.get("keyterms") for one in successes] == [["Kowalski"], None, ["Kowalski"]]
    assert model.asked == [Decoding(phrases=("New York", "Ada")), Decoding(phrases=("Kowalski",))]
    # The times of what follows go on.
    assert heard[4]["channel"]["alternatives"][0]["words"][0]["start"] == 0.5


@pytest.mark.parametrize(
    ("model", "configure", "code"),
    [
        (ScriptedModel(), {"keyterms": ["Kowalski"]}, "CONFIGURE_KEYTERMS_NOT_SUPPORTED"),
        (SearchingModel(), {"keyterms": ["x" * 101]}, "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"),
        (SearchingModel(), {"features": {"numerals": True}}, "CONFIGURE_INTERNAL_ERROR"),
    ],
)
async def test_a_configure_that_cannot_be_met_changes_nothing(
    model: ScriptedModel, configure: Message, code: str
) -> None:
    heard, closed = await talk(await started(model=model), RAW, {"type": "Configure", **configure}, pcm(0.5), CLOSE)
    assert (heard[0]["type"], heard[0]["code"], closed) == ("ConfigureFailure", code, 1000)
    assert text_of(heard[1]) == "This"
    if isinstance(model, SearchingModel):
        assert model.asked == [GREEDY]


@pytest.mark.parametrize(
    "nonsense", ["", "hello", "[]", "{}", '{"type":"Sing"}', '{"type":"Configure","keyterms":5}', '{"type":null}']
)
async def test_what_cannot_be_read_is_told_and_costs_nothing(nonsense: str) -> None:
    heard, code = await talk(await numbers(), RAW, pcm(0.75), nonsense, {"type": "KeepAlive"}, CLOSE)
    assert (heard[0]["type"], heard[0]["variant"], heard[0]["message"]) == ("Error", "SchemaError", nonsense)
    assert (told(heard[1:]), code) == ([("One", True, False, False), ("Metadata",)], 1000)


async def test_an_empty_message_ends_the_stream() -> None:
    heard, code = await talk(await numbers(), RAW, pcm(0.75), b"")
    assert (told(heard), code) == ([("One", True, False, False), ("Metadata",)], 1000)


def wave(
    audio: bytes, *, tag: int = 1, bits: int = 16, channels: int = 1, rate: int = 16000, extra: bytes = b""
) -> bytes:
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * frame, frame, bits) + extra
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(form)) + form
    return b"RIFF\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff" + audio


EXTENSIBLE = struct.pack("<HHIH", 22, 16, 0, 1) + bytes(14)
STEREO = np.repeat(np.frombuffer(pcm(1.75), "<i2"), 2).tobytes()


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "audio",
    [
        wave(pcm(1.75)),
        wave(pcm(1.75), tag=0xFFFE, extra=EXTENSIBLE),
        wave(STEREO, channels=2),
        wave((np.frombuffer(pcm(1.75), "<i2") / np.float32(32768)).astype("<f4").tobytes(), tag=3, bits=32),
    ],
    ids=["plain", "extensible", "stereo", "float"],
)
async def test_without_an_encoding_a_wave_file_says_what_it_is(audio: bytes, piece: int) -> None:
    head = [audio[at : at + piece] for at in range(0, 100, piece)]
    heard, code = await talk(await numbers(), "model=nova-3", *head, audio[len(head) * piece :] or pcm(0), CLOSE)
    assert (text_of(heard[0]), code) == ("One two.", 1000)


@pytest.mark.parametrize(
    "audio",
    [
        pcm(1),
        b"OggS" + bytes(2000),
        wave(pcm(1), bits=24),
        wave(pcm(1), channels=0),
        wave(pcm(1), rate=0),
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcddata\0\0\0\0",
        b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f",
    ],
)
async def test_what_is_neither_described_nor_wave_is_refused(audio: bytes) -> None:
    async with (await numbers()).live(path="/v1/listen") as client:
        await client.accepted()
        await client.say(audio)
        (error,) = checked([await client.hear()])
        close = await client.next()
    assert (error["type"], error["variant"]) == ("Error", "undecodable_audio")
    assert (close["code"], close["reason"][:9]) == (1008, "DATA-0000")


async def test_interleaved_channels_are_mixed() -> None:
    heard, _ = await talk(await numbers(), f"{RAW}&channels=2", STEREO[:3], STEREO[3:], CLOSE)
    assert text_of(heard[0]) == "One two."
    assert heard[-1]["duration"] == 1.75
    assert heard[-1]["channels"] == 2


@pytest.mark.leaping_clock
async def test_who_falls_silent_is_disconnected_with_what_was_said() -> None:
    async with (await numbers()).live(path="/v1/listen", query=RAW) as client:
        await client.accepted()
        await client.say(pcm(0.75))
        await asyncio.sleep(9.9)
        await client.say({"type": "KeepAlive"})
        await asyncio.sleep(9.9)
        results, error = checked([await client.hear(), await client.hear()])
        close = await client.next()
    assert (text_of(results), error["variant"]) == ("One", "session_idle")
    assert (close["code"], close["reason"]) == (1011, "NET-0001: no audio and no KeepAlive for 10 s")


async def test_a_model_that_fails_is_told() -> None:
    class Failing(ScriptedModel):
        def open_stream(self, *_: Any, **__: Any) -> Any:
            return _Opened()

    class _Opened:
        async def __aenter__(self) -> FailingStream:
            return FailingStream()

        async def __aexit__(self, *_: object) -> None: ...

    heard, code = await talk(await started(model=Failing()), RAW, pcm(1))
    assert ([one["variant"] for one in heard], code) == (["inference_failed"], 1011)


async def refused(world: World, query: str, **given: Any) -> tuple[int, dict[str, str]]:
    async with world.live(path="/v1/listen", query=query, **given) as client:
        message = await client.next()
    assert message["type"] == "websocket.http.response.start", message
    return message["status"], {name.decode(): value.decode() for name, value in message["headers"]}


@pytest.mark.parametrize(
    ("query", "status", "reason"),
    [
        ("redact=pci", 400, "redact: This service does not redact"),
        ("callback=https%3A%2F%2Fexample.org", 400, "callback: "),
        ("encoding=opus&sample_rate=48000", 400, "encoding: "),
        (
            "multichannel=true&channels=17&encoding=linear16",
            400,
            "channels: up to 16 can be transcribed each by itself",
        ),
        ("multichannel=perhaps", 400, "multichannel: "),
        ("sample_rate=7", 400, "sample_rate: "),
        ("language=fr", 400, "The model does not support 'fr'"),
        ("model=gpt-9", 400, "The model 'gpt-9' is not available"),
        ("utterance_end_ms=500", 400, "utterance_end_ms: "),
        ("endpointing=soon", 400, "endpointing: "),
        ("interim_results=perhaps", 400, "interim_results: "),
    ],
)
async def test_what_cannot_be_met_is_refused_before_the_session(query: str, status: int, reason: str) -> None:
    got, headers = await refused(await numbers(), query)
    assert (got, headers["dg-error"][: len(reason)]) == (status, reason)
    assert headers["dg-request-id"] == headers["x-request-id"]


async def test_a_model_that_is_not_ready_refuses() -> None:
    status, headers = await refused(World(), RAW)
    assert (status, headers["retry-after"]) == (503, "1")


async def test_parameters_without_effect_are_named() -> None:
    query = f"{RAW}&diarize=true&numerals=false&version=latest&mip_opt_out=true&redact=false&keyterm=x&caf%C3%A9=1"
    async with (await numbers()).live(path="/v1/listen", query=query) as client:
        accepted = await client.accepted()
    headers = dict(accepted["headers"])
    assert headers[b"x-ignored-parameters"] == b"diarize, caf%C3%A9, keyterm"
    assert headers[b"dg-request-id"] == headers[b"x-request-id"]


@pytest.mark.parametrize(("offered", "spoken"), [(["token", "s3cret"], "token"), (["bearer", "s3cret"], "bearer")])
async def test_a_browser_offers_its_key_as_a_subprotocol(offered: list[str], spoken: str) -> None:
    world = await numbers(settings=a_settings(api_keys="alice:s3cret"))
    async with world.live(path="/v1/listen", query=RAW, subprotocols=offered) as client:
        assert (await client.accepted())["subprotocol"] == spoken
    status, headers = await refused(world, RAW, headers={"authorization": "Token wrong"})
    assert (status, headers["dg-error"][:19]) == (401, "The API key is not ")


async def test_long_messages_give_way_and_too_long_ones_end_the_session() -> None:
    world = await started()
    heard, code = await talk(world, RAW, pcm(30), CLOSE)
    assert (heard[-1]["duration"], code) == (30.0, 1000)
    heard, code = await talk(world, RAW, bytes((16 << 20) + 1))
    assert ([one["variant"] for one in heard], code) == (["frame_too_large"], 1009)


async def test_a_shutdown_tells_what_was_said() -> None:
    world = await numbers()
    async with world.live(path="/v1/listen", query=RAW) as client:
        await client.accepted()
        await client.say(pcm(0.75))
        await client.said()
        finishing = asyncio.create_task(world.service.drain.finish())
        heard, code = await _rest(client)
        await finishing
    assert (told(heard), code) == ([("One", True, False, False), ("Metadata",)], 1001)
    assert world.model.open_streams == 0


async def _rest(client: LiveClient) -> tuple[list[Message], int]:
    heard, code = await client.hear_until_close()
    return checked(heard), code


MULTI = f"{RAW}&multichannel=true&channels=2"


def interleaved(*channels: bytes) -> bytes:
    """Shorter ones are followed by silence."""
    most = max(map(len, channels))
    return np.stack([np.frombuffer(one.ljust(most, b"\0"), "<i2") for one in channels], axis=1).tobytes()


TURNS = interleaved(pcm(1.75), pcm(2, level=0) + pcm(0.75))
"""The first channel speaks for 1.75 s; the second one after 2 s, for 0.75 s."""


def told_on(messages: list[Message], channel: int, *, of: int = 2) -> list[tuple[Any, ...]]:
    place = [channel, of]
    return told([one for one in messages if place in (one.get("channel_index"), one.get("channel"))])


@pytest.mark.parametrize("piece", [1001, 1 << 20])
async def test_each_channel_may_have_a_text_of_its_own(piece: int) -> None:
    said = [TURNS[at : at + piece] for at in range(0, len(TURNS), piece)]
    heard, code = await talk(await numbers(), MULTI, *said, CLOSE)
    assert told_on(heard, 0) == [("One two.", True, True, False)]
    assert told_on(heard, 1) == [("One", True, False, False)]
    (second,) = [one for one in heard if one.get("channel_index") == [1, 2]]
    assert (second["start"], second["duration"]) == (0.0, second["channel"]["alternatives"][0]["words"][0]["end"])
    assert second["channel"]["alternatives"][0]["words"][0]["start"] == pytest.approx(2, abs=0.2)
    metadata = heard[-1]
    assert (metadata["type"], metadata["channels"], metadata["duration"], code) == ("Metadata", 2, 2.75, 1000)


async def test_interim_results_and_events_say_their_channel() -> None:
    query = f"{MULTI}&interim_results=true&utterance_end_ms=1000&vad_events=true"
    quiet = interleaved(pcm(0.25, level=0), b"")
    said = [TURNS[at : at + 16_000] for at in range(0, len(TURNS), 16_000)]
    heard, _ = await talk(await numbers(), query, *said, *[quiet] * 8, CLOSE)
    for channel, (text, start_s, end_s) in enumerate([("One two.", 0.0, 1.75), ("One", 1.9, 2.65)]):
        kinds = [one[0] for one in told_on(heard, channel) if one[1:2] != (False,)]
        assert kinds == ["SpeechStarted", text, "UtteranceEnd"]
        mine = [one for one in heard if one.get("channel") == [channel, 2]]
        assert mine[0]["timestamp"] == pytest.approx(start_s, abs=0.2)
        assert mine[1]["last_word_end"] == pytest.approx(end_s, abs=0.2)
    # How many there are depends on when the model's turn comes.
    interim = [one for one in heard if one.get("is_final") is False]
    assert any(one["channel_index"] == [0, 2] for one in interim)


async def test_a_finalize_is_answered_by_every_channel_or_by_the_one_that_it_names() -> None:
    both = interleaved(pcm(0.75), pcm(0.75))
    one = {"type": "Finalize", "channel": 1}
    heard, _ = await talk(await numbers(), MULTI, both, one, one, {"type": "Finalize"}, CLOSE)
    assert told_on(heard, 0) == [("One", True, True, True)]
    assert told_on(heard, 1) == [("One", True, True, True), ("", True, False, True), ("", True, False, True)]


@pytest.mark.parametrize("channel", [-1, 2, 1 << 70, "first"])
async def test_a_finalize_of_a_channel_that_there_is_not_costs_nothing(channel: object) -> None:
    heard, code = await talk(await numbers(), MULTI, TURNS, {"type": "Finalize", "channel": channel}, CLOSE)
    (error,) = [one for one in heard if one["type"] == "Error"]
    assert (error["variant"], code) == ("SchemaError", 1000)
    assert not any(one["from_finalize"] for one in heard if one["type"] == "Results")


async def test_terms_are_changed_on_all_channels_and_told_once() -> None:
    model = SearchingModel(("en",))
    both = interleaved(pcm(0.5), pcm(0.5))
    changed = {"type": "Configure", "keyterms": ["Kowalski"], "features": {"punctuate": False}}
    # The first byte of a frame before, and the rest after it: channels must not be exchanged.
    heard, _ = await talk(await started(model=model), MULTI, both + both[:3], changed, both[3:], CLOSE)
    assert [one["type"] for one in heard].count("ConfigureSuccess") == 1
    for channel in (0, 1):
        assert [one[0] for one in told_on(heard, channel)] == ["This", "this"]
    assert model.asked == [GREEDY, GREEDY, *[Decoding(phrases=("Kowalski",))] * 2]


async def test_a_wave_file_says_how_many_channels_it_has() -> None:
    said = wave(TURNS, channels=2)
    heard, code = await talk(await numbers(), "multichannel=true", said[:30], said[30:50], said[50:], CLOSE)
    assert (told_on(heard, 0)[0][0], told_on(heard, 1)[0][0], code) == ("One two.", "One", 1000)
    assert heard[-1]["channels"] == 2


async def test_a_wave_file_of_too_many_channels_is_refused() -> None:
    heard, code = await talk(await numbers(), "multichannel=true", wave(bytes(34), channels=17))
    assert ([one["variant"] for one in heard], code) == (["invalid_request"], 1008)


async def test_one_channel_is_a_channel_of_one() -> None:
    heard, _ = await talk(await numbers(), f"{RAW}&multichannel=true", pcm(0.75), {"type": "Finalize"}, CLOSE)
    assert told_on(heard, 0, of=1) == [("One", True, True, True)]


async def test_each_channel_takes_a_place() -> None:
    world = await numbers(model=ScriptedModel(max_streams=3))
    async with world.live(path="/v1/listen", query=MULTI) as first:
        await first.accepted()
        await first.said()
        heard, code = await talk(world, MULTI)
        assert ([one["variant"] for one in heard], code) == (["too_many_streams"], 1013)
        assert world.model.open_streams == 2
    assert world.model.open_streams == 0


async def test_each_channel_is_charged() -> None:
    world = await numbers(settings=a_settings(api_keys="alice:s3cret", audio_rate_limit="5/hour"))
    async with world.live(path="/v1/listen", query=MULTI, headers={"authorization": "Token s3cret"}) as client:
        await client.accepted()
        await client.say(interleaved(pcm(3), b""))
        heard, code = await _rest(client)
    # Two seconds of two channels are four; their third ones are too many.
    assert (heard[-1]["variant"], code) == ("rate_limit_exceeded", 1013)
    assert told_on(heard, 0) == [("One two.", True, False, False)]


async def test_a_shutdown_tells_what_was_said_on_every_channel() -> None:
    world = await numbers()
    async with world.live(path="/v1/listen", query=MULTI) as client:
        await client.accepted()
        await client.say(interleaved(pcm(0.75), pcm(0.75)))
        await client.said()
        finishing = asyncio.create_task(world.service.drain.finish())
        heard, code = await _rest(client)
        await finishing
    assert (told_on(heard, 0), told_on(heard, 1)) == ([("One", True, False, False)], [("One", True, False, False)])
    assert (heard[-1]["type"], code) == ("Metadata", 1001)
    assert world.model.open_streams == 0


@pytest.mark.leaping_clock
async def test_who_falls_silent_is_told_what_was_said_on_every_channel() -> None:
    async with (await numbers()).live(path="/v1/listen", query=MULTI) as client:
        await client.accepted()
        await client.say(interleaved(pcm(0.75), pcm(0.75)))
        heard, code = await _rest(client)
    assert (told_on(heard, 0), told_on(heard, 1)) == ([("One", True, True, False)], [("One", True, True, False)])
    assert (heard[-1]["variant"], code) == ("session_idle", 1011)


async def test_files_are_refused_with_several_channels() -> None:
    heard, code = await talk(await numbers(), MULTI, b"fLaC\0\0\0\x22" + bytes(range(92)))
    assert ([one["variant"] for one in heard], code) == (["undecodable_audio"], 1008)


@pytest.mark.parametrize("leaves_after", range(40))
async def test_a_client_that_leaves_at_any_moment_leaves_nothing(leaves_after: int) -> None:
    world = await numbers()
    async with world.live(path="/v1/listen", query=f"{MULTI}&interim_results=true") as client:
        await client.accepted()
        await client.say(TURNS)
        await client.say({"type": "Finalize"})
        await client.say({"type": "Configure", "features": {"punctuate": False}})
        await client.say(CLOSE)
        for _ in range(leaves_after * 3):
            await asyncio.sleep(0)
    assert world.model.open_streams == 0
