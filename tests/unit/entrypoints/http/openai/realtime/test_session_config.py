from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.application.ports.speech_model import GREEDY, Decoding, StreamContext
from parakeet_service.application.stream_session import LiveOptions
from parakeet_service.domain.audio import Encoding
from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.errors import InvalidRequestError
from parakeet_service.entrypoints.http.guards.errors import UnknownModelError
from parakeet_service.entrypoints.http.guards.websocket_gateway import JsonObject
from parakeet_service.entrypoints.http.openai.realtime.schemas import Delay
from parakeet_service.entrypoints.http.openai.realtime.session_config import SessionConfig
from tests.scripted_model import ScriptedModel

DEFAULTS = LiveOptions(Encoding.PCM_S16LE, 16000, None, StreamContext(6, 1, 6), Endpointing())
SERVER_VAD = {"type": "server_vad", "threshold": 0.2, "prefix_padding_ms": 300, "silence_duration_ms": 500}


async def fresh(*languages: str, searches: bool = False) -> SessionConfig:
    model = ScriptedModel()
    await model.start()
    return SessionConfig.of(replace(model.describe(), languages=languages or ("en",), searches=searches))


def of(**audio_input: Any) -> JsonObject:
    return {"type": "transcription", "audio": {"input": audio_input}}


def audio_input(setup: SessionConfig) -> dict[str, Any]:
    told: Any = setup.in_force("sess_1", flat=False)
    inside: dict[str, Any] = told["audio"]["input"]
    return inside


async def test_who_asks_for_nothing_is_told_what_it_gets() -> None:
    setup = await fresh()
    assert setup.in_force("sess_1", flat=False) == {
        "id": "sess_1",
        "object": "realtime.transcription_session",
        "expires_at": None,
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": {"model": "scripted", "language": "en"},
                "turn_detection": SERVER_VAD,
                "noise_reduction": None,
            }
        },
        "include": None,
    }
    assert setup.options(DEFAULTS) == LiveOptions(
        Encoding.PCM_S16LE,
        24000,
        "en",
        DEFAULTS.context,
        Endpointing(silence_s=0.5, prefix_padding_s=0.3),
    )


async def test_the_beta_protocol_has_its_own_words_for_it() -> None:
    setup = await fresh()
    assert setup.in_force("sess_1", flat=True) == {
        "id": "sess_1",
        "object": "realtime.transcription_session",
        "expires_at": None,
        "input_audio_format": "pcm16",
        "input_audio_transcription": {"model": "scripted", "language": "en"},
        "turn_detection": SERVER_VAD,
        "input_audio_noise_reduction": None,
        "include": None,
    }
    flat = setup.updated(
        {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1", "prompt": "Names."},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
            "input_audio_noise_reduction": {"type": "near_field"},
        }
    )
    nested = setup.updated(
        of(
            format={"type": "audio/pcmu"},
            transcription={"model": "whisper-1"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 700},
        )
    )
    assert flat == replace(nested, asked=flat.asked)
    assert flat.in_force("s", flat=True)["input_audio_format"] == "g711_ulaw"


async def test_what_is_left_out_stays() -> None:
    setup = (await fresh("en", "de")).updated(
        of(
            format={"type": "audio/pcm", "rate": 16000},
            transcription={"model": "whisper-1", "language": "de", "delay": "low"},
            turn_detection={"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 700},
        )
        | {"include": ["item.input_audio_transcription.logprobs"]}
    )
    nothings: list[JsonObject] = [
        {},
        {"audio": {}},
        of(),
        of(format={}, transcription={}, turn_detection={}),
        of(turn_detection={"type": "server_vad"}),
    ]
    for nothing in nothings:
        assert setup.updated(nothing).in_force("s", flat=False) == setup.in_force("s", flat=False)
    changed = audio_input(setup.updated(of(transcription={"language": "en"}, turn_detection={"prefix_padding_ms": 10})))
    assert changed["transcription"] == {"model": "whisper-1", "language": "en", "delay": "low"}
    assert changed["turn_detection"] == SERVER_VAD | {
        "threshold": 0.6,
        "prefix_padding_ms": 10,
        "silence_duration_ms": 700,
    }
    assert setup.logprobs


async def test_null_is_the_default_again() -> None:
    first = await fresh("en", "de")
    setup = first.updated(
        of(
            format={"type": "audio/pcmu"},
            transcription={"model": "whisper-1", "language": "de", "languages": ["en"], "delay": "low"},
            turn_detection={"type": "server_vad", "threshold": 0.6, "idle_timeout_ms": 6000},
        )
        | {"include": ["item.input_audio_transcription.logprobs"]}
    )
    cleared = audio_input(
        setup.updated(of(transcription={"language": None, "languages": None, "delay": None, "model": None}))
    )
    assert cleared["transcription"] == audio_input(first)["transcription"] == {"model": "scripted", "language": None}
    assert audio_input(setup.updated(of(format=None)))["format"] == {"type": "audio/pcm", "rate": 24000}
    assert audio_input(setup.updated(of(transcription=None)))["transcription"]["model"] == "scripted"
    vad = setup.updated(of(turn_detection={"threshold": None, "idle_timeout_ms": None}))
    assert audio_input(vad)["turn_detection"] == SERVER_VAD
    assert not setup.updated({"include": None}).logprobs
    assert setup.updated({"audio": None}).in_force("s", flat=False) == first.updated(
        {"include": ["item.input_audio_transcription.logprobs"]}
    ).in_force("s", flat=False)


async def test_without_turn_detection_the_client_ends_turns() -> None:
    setup = (await fresh()).updated(of(turn_detection=None))
    assert audio_input(setup)["turn_detection"] is None
    assert setup.endpointing == Endpointing(silence_s=None)
    assert setup.updated(of(transcription={"language": "en"})).turn_detection is None
    again = setup.updated(of(turn_detection={"type": "server_vad"}))
    assert audio_input(again)["turn_detection"] == SERVER_VAD


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-live-transcribe"])
async def test_clients_of_models_that_detect_no_turns_end_them_unless_they_ask(model: str) -> None:
    setup = (await fresh()).updated(of(transcription={"model": model}))
    assert setup.turn_detection is None
    asked = setup.updated(of(turn_detection={"type": "server_vad"}))
    assert asked.turn_detection is not None
    assert setup.updated(of(transcription={"model": "whisper-1"})).turn_detection is not None


@pytest.mark.parametrize(
    ("eagerness", "silence_s", "complete_s"),
    [({"eagerness": "low"}, 8, 1.5), ({"eagerness": "medium"}, 4, 0.8), ({}, 4, 0.8), ({"eagerness": "high"}, 2, 0.4)],
)
async def test_semantic_vad_waits_for_the_end_of_a_sentence(
    eagerness: dict[str, str], silence_s: float, complete_s: float
) -> None:
    setup = (await fresh()).updated(of(turn_detection={"type": "semantic_vad", **eagerness}))
    assert setup.endpointing == Endpointing(silence_s=silence_s, complete_s=complete_s)
    assert audio_input(setup)["turn_detection"] == {"type": "semantic_vad", "eagerness": "auto", **eagerness}


async def test_another_kind_of_detection_takes_nothing_over() -> None:
    semantic = {"type": "semantic_vad", "eagerness": "low"}
    setup = (await fresh()).updated(of(turn_detection={"threshold": 0.7})).updated(of(turn_detection=semantic))
    assert audio_input(setup)["turn_detection"] == semantic
    assert audio_input(setup.updated(of(turn_detection={"type": "server_vad"})))["turn_detection"] == SERVER_VAD


@pytest.mark.parametrize(
    ("audio_format", "encoding", "rate_hz"),
    [
        ({"type": "audio/pcm"}, Encoding.PCM_S16LE, 24000),
        ({"rate": 48000}, Encoding.PCM_S16LE, 48000),
        *(({"type": "audio/pcm", "rate": rate}, Encoding.PCM_S16LE, rate) for rate in (8000, 16000, 24000)),
        ({"type": "audio/pcmu"}, Encoding.MULAW, 8000),
        ({"type": "audio/pcma", "rate": 8000}, Encoding.ALAW, 8000),
    ],
)
async def test_formats(audio_format: dict[str, Any], encoding: Encoding, rate_hz: int) -> None:
    options = (await fresh()).updated(of(format=audio_format)).options(DEFAULTS)
    assert (options.encoding, options.sample_rate_hz) == (encoding, rate_hz)


async def test_a_longer_delay_leaves_more_audio_behind_a_word_before_it_is_told() -> None:
    delays: tuple[Delay, ...] = ("minimal", "low", "medium", "high", "xhigh")
    contexts = [
        (await fresh()).updated(of(transcription={"delay": delay})).options(DEFAULTS).context for delay in delays
    ]
    rights = [context.right_s for context in contexts]
    assert rights == sorted(set(rights))
    assert contexts[0].chunk_s + contexts[0].right_s <= 1.5
    assert {context.left_s for context in contexts} == {DEFAULTS.context.left_s}
    assert max(context.left_s + context.chunk_s + context.right_s for context in contexts) <= 13


async def test_keywords_are_favoured_until_they_are_taken_back() -> None:
    setup = (await fresh(searches=True)).updated(of(transcription={"keywords": ["MLX", "Parakeet"]}))
    assert setup.options(DEFAULTS).decoding == Decoding(phrases=("MLX", "Parakeet"))
    assert audio_input(setup)["transcription"] == {
        "model": "scripted",
        "language": "en",
        "keywords": ["MLX", "Parakeet"],
    }
    assert setup.updated(of(turn_detection=None)).options(DEFAULTS).decoding.phrases == ("MLX", "Parakeet")
    assert setup.updated(of(transcription={"keywords": None})).options(DEFAULTS).decoding == GREEDY
    with pytest.raises(InvalidRequestError, match="at most 100 characters"):
        setup.updated(of(transcription={"keywords": ["x" * 101]}))


async def test_what_has_no_effect_is_not_said_to_be_in_force() -> None:
    setup = (await fresh()).updated(
        of(
            transcription={"model": "whisper-1", "prompt": "Names.", "keywords": ["MLX"], "new": 1},
            noise_reduction={"type": "near_field", "strength": 0.5},
            turn_detection={"type": "server_vad", "create_response": True, "interrupt_response": True},
        )
        | {"tracing": "auto", "include": ["item.else"]}
    )
    assert audio_input(setup) == audio_input(await fresh()) | {
        "transcription": {"model": "whisper-1", "language": "en"}
    }
    assert setup.in_force("s", flat=False)["include"] is None


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"type": "realtime"}, "session.type"),
        ({"audio": 5}, "session.audio"),
        (of(format={"type": "audio/opus"}), "session.audio.input.format"),
        (of(format={"type": "audio/pcm", "rate": 11025}), "session.audio.input.format.rate"),
        (of(turn_detection={"type": "telepathy"}), "session.audio.input.turn_detection"),
        (of(turn_detection={"threshold": 3}), "session.audio.input.turn_detection.threshold"),
        (
            of(turn_detection={"type": "semantic_vad", "eagerness": "very"}),
            "session.audio.input.turn_detection.eagerness",
        ),
        (of(turn_detection={"silence_duration_ms": 1}), "turn_detection"),
        (of(transcription={"delay": "none"}), "session.audio.input.transcription.delay"),
        (of(transcription={"language": "fr"}), "language"),
        (of(transcription={"languages": ["fr", "de"]}), "languages"),
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        ({"input_audio_format": 7}, "session.input_audio_format"),
        ({"input_audio_transcription": {"delay": 1}}, "session.input_audio_transcription.delay"),
        ({"turn_detection": {"threshold": "x"}}, "session.turn_detection.threshold"),
    ],
)
async def test_says_what_it_cannot_read_or_meet_as_the_client_calls_it(session: JsonObject, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        (await fresh()).updated(session)
    assert caught.value.details == {"param": param}


async def test_knows_the_model_by_all_its_names_and_no_other() -> None:
    setup = await fresh()
    assert audio_input(setup.updated(of(transcription={"model": "parakeet"})))["transcription"]["model"] == "parakeet"
    with pytest.raises(UnknownModelError):
        setup.updated(of(transcription={"model": "gpt-realtime"}))


@pytest.mark.parametrize(
    ("asked", "language"),
    [({"language": "de-DE"}, "de"), ({"language": "German"}, "de"), ({"languages": ["fr", "de"]}, "de"), ({}, None)],
)
async def test_languages(asked: dict[str, Any], language: str | None) -> None:
    assert (await fresh("en", "de")).updated(of(transcription=asked)).language == language


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["transcription", None]),
        "include": st.sampled_from([None, [], ["item.input_audio_transcription.logprobs"]]),
        "audio": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "input": st.none()
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "format": st.sampled_from([None, {"type": "audio/pcmu"}, {"rate": 16000}, {}]),
                        "transcription": st.sampled_from(
                            [None, {}, {"model": "whisper-1"}, {"model": "gpt-realtime-whisper"}, {"delay": "low"}]
                        ),
                        "turn_detection": st.sampled_from(
                            [None, {}, {"type": "server_vad"}, {"type": "semantic_vad"}, {"silence_duration_ms": 900}]
                        ),
                    },
                )
            },
        ),
    },
)


@given(updates=st.lists(FIELDS, max_size=6))
async def test_saying_it_twice_changes_nothing(updates: list[dict[str, Any]]) -> None:
    setup = await fresh()
    for update in updates:
        try:
            setup = setup.updated(update)
        except InvalidRequestError:
            # `{"rate": 16000}` is none of mu-law's, and the like.
            continue
        assert setup.updated(update).in_force("s", flat=False) == setup.in_force("s", flat=False)
        assert setup.updated({}).in_force("s", flat=True) == setup.in_force("s", flat=True)
