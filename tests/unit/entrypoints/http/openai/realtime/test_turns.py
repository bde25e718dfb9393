from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.errors import InferenceError
from parakeet_service.domain.live import Cleared, EndCause, Final, LiveEvent, Partial, SpeechStarted, SpeechStopped
from parakeet_service.domain.transcript import Token, Word
from parakeet_service.entrypoints.http.openai.realtime.session_config import SessionConfig
from parakeet_service.entrypoints.http.openai.realtime.turns import Trigger, Turns
from tests.scripted_model import ScriptedModel

Message = dict[str, Any]
LOGPROBS = {"include": ["item.input_audio_transcription.logprobs"]}
MANUAL = {"audio": {"input": {"turn_detection": None}}}


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(one, 0, 0, 0.5, (Token(1, " " + one, 0, 0, 0.5),)) for one in text.split())


async def turns(*sessions: dict[str, Any], flat: bool = False) -> Turns:
    model = ScriptedModel()
    await model.start()
    setup = SessionConfig.of(model.describe())
    for session in sessions:
        setup = setup.updated(session)
    made = Turns()
    made.begin(setup, at_s=0.0, flat=flat)
    return made


def hear(turns: Turns, *events: LiveEvent) -> list[Message]:
    return [message for event in events for message in turns.hear(event)]


def kinds(messages: Sequence[Message]) -> list[str]:
    return [message["type"].rpartition(".")[2] for message in messages]


def utterance(*partials: str, final: str, cause: EndCause = EndCause.SILENCE, at_s: float = 1.0) -> list[LiveEvent]:
    return [
        SpeechStarted(at_s),
        *(Partial(words(text), words("a draft"), 0.0) for text in partials),
        SpeechStopped(at_s + 1.5),
        Final(words(final), 0, cause),
    ]


async def test_a_turn_as_openai_tells_it() -> None:
    told = hear(await turns(), *utterance("", "It", "It is", final="It is so."))
    item_id = told[0]["item_id"]
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    transcription = "conversation.item.input_audio_transcription"
    assert [{**message, "event_id": ""} for message in told] == [
        {"type": "input_audio_buffer.speech_started", "event_id": "", "audio_start_ms": 1000, "item_id": item_id},
        {"type": f"{transcription}.delta", "event_id": "", "item_id": item_id, "content_index": 0, "delta": "It"},
        {"type": f"{transcription}.delta", "event_id": "", "item_id": item_id, "content_index": 0, "delta": " is"},
        {"type": "input_audio_buffer.speech_stopped", "event_id": "", "audio_end_ms": 2500, "item_id": item_id},
        {"type": "input_audio_buffer.committed", "event_id": "", "item_id": item_id, "previous_item_id": None},
        *(
            {"type": f"conversation.item.{kind}", "event_id": "", "item": item, "previous_item_id": None}
            for kind in ("created", "added", "done")
        ),
        {"type": f"{transcription}.delta", "event_id": "", "item_id": item_id, "content_index": 0, "delta": " so."},
        {
            "type": f"{transcription}.completed",
            "event_id": "",
            "item_id": item_id,
            "content_index": 0,
            "transcript": "It is so.",
            "usage": {"type": "duration", "seconds": 1.5},
            "languages": [{"code": "en"}],
        },
    ]
    assert len({message["event_id"] for message in told}) == len(told)


async def test_the_beta_protocol_knows_fewer_events_and_no_languages() -> None:
    told = hear(await turns(flat=True), *utterance(final="Yes."))
    assert kinds(told) == ["speech_started", "speech_stopped", "committed", "created", "delta", "completed"]
    assert "languages" not in told[-1]


async def test_a_cough_is_a_turn_without_words() -> None:
    told = hear(await turns(), *utterance(final=""))
    assert kinds(told)[:3] == ["speech_started", "speech_stopped", "committed"]
    assert (kinds(told)[-1], told[-1]["transcript"]) == ("completed", "")
    assert "delta" not in kinds(told)


async def test_the_probabilities_of_tokens_come_with_the_words_where_they_are_wanted() -> None:
    told = hear(await turns(LOGPROBS), *utterance("It", final="It is."))
    one, two = ({"token": token, "bytes": list(token.encode()), "logprob": -0.693147} for token in (" It", " is."))
    assert [message["logprobs"] for message in told if "logprobs" in message] == [[one], [two], [one, two]]


async def test_where_the_client_ends_turns_a_long_one_is_told_in_one_piece() -> None:
    made = await turns(MANUAL)
    told = hear(made, *utterance("One", final="One two.", cause=EndCause.LENGTH))
    told += hear(made, *utterance("Three.", final="Three.", cause=EndCause.LENGTH, at_s=61))
    assert kinds(told) == ["delta"] * 3
    made.ask(Trigger.COMMIT, at_s=64.0)
    told += hear(made, *utterance(final="Four.", cause=EndCause.ASKED, at_s=62))
    assert kinds(told)[3:] == ["committed", "created", "added", "done", "delta", "completed"]
    assert [message["delta"] for message in told if "delta" in message] == ["One", " two.", " Three.", " Four."]
    assert told[-1]["transcript"] == "One two. Three. Four."
    assert told[-1]["usage"]["seconds"] == 64.0


async def test_where_the_client_never_ends_a_turn_it_ends_before_it_fills_the_memory() -> None:
    made = await turns(MANUAL)
    minute = " ".join(["word"] * 1000)
    told = [message for _ in range(10) for message in hear(made, *utterance(final=minute, cause=EndCause.LENGTH))]
    assert kinds(told)[-2:] == ["done", "completed"]
    assert told[-1]["transcript"].split() == ["word"] * 10_000
    assert "".join(message["delta"] for message in told if "delta" in message) == told[-1]["transcript"]
    assert kinds(hear(made, *utterance(final="More.", cause=EndCause.LENGTH))) == ["delta"]


async def test_where_the_client_ends_turns_silence_is_one_too_and_nothing_is_none() -> None:
    made = await turns(MANUAL)
    made.ask(Trigger.COMMIT, at_s=0.0)
    assert hear(made, Final((), 0, EndCause.ASKED)) == []
    made.ask(Trigger.COMMIT, at_s=2.0)
    told = hear(made, Final((), 1, EndCause.ASKED))
    assert (kinds(told)[0], told[-1]["transcript"], told[-1]["usage"]["seconds"]) == ("committed", "", 2.0)
    made.ask(Trigger.COMMIT, at_s=2.0)
    assert hear(made, Final((), 2, EndCause.ASKED)) == []


async def test_where_the_service_ends_turns_a_commit_in_silence_changes_nothing() -> None:
    made = await turns()
    made.ask(Trigger.COMMIT, at_s=5.0)
    assert hear(made, Final((), 0, EndCause.ASKED)) == []
    made.ask(Trigger.COMMIT, at_s=6.0)
    assert kinds(hear(made, *utterance(final="Yes.", cause=EndCause.ASKED)))[-1] == "completed"


async def test_what_is_cleared_is_told_no_further() -> None:
    made = await turns(MANUAL)
    before = hear(made, SpeechStarted(1.0), Partial(words("It is"), (), 0.0))
    made.ask(Trigger.CLEAR, at_s=2.0)
    assert kinds(hear(made, Cleared())) == ["cleared"]
    made.ask(Trigger.COMMIT, at_s=2.0)
    assert hear(made, Final((), 1, EndCause.ASKED)) == []
    made.ask(Trigger.COMMIT, at_s=3.0)
    after = hear(made, *utterance(final="Other.", cause=EndCause.ASKED, at_s=2.5))
    assert after[0]["item_id"] != before[0]["item_id"]
    assert (after[-1]["transcript"], after[-1]["usage"]["seconds"]) == ("Other.", 1.0)


async def test_a_long_silence_is_a_turn_of_its_own() -> None:
    made = await turns()
    hear(made, *utterance(final="Hello?"))
    assert made.is_quiet
    made.ask(Trigger.IDLE, at_s=9.0)
    assert not made.is_quiet
    told = hear(made, Final((), 1, EndCause.ASKED))
    assert kinds(told) == ["timeout_triggered", "committed", "created", "added", "done", "completed"]
    assert (told[0]["audio_start_ms"], told[0]["audio_end_ms"]) == (2500, 9000)
    assert (told[-1]["transcript"], told[-1]["usage"]["seconds"]) == ("", 6.5)
    assert len({message.get("item_id") or message["item"]["id"] for message in told}) == 1


async def test_speech_that_was_heard_in_the_meantime_is_no_silence() -> None:
    made = await turns()
    made.ask(Trigger.IDLE, at_s=9.0)
    assert "timeout_triggered" not in kinds(hear(made, *utterance(final="Yes.", cause=EndCause.ASKED)))


async def test_the_end_ends_what_was_begun_and_begins_nothing() -> None:
    made = await turns()
    made.ask(Trigger.LAST, at_s=9.0)
    assert hear(made, Final((), 0, EndCause.ASKED)) == []
    made.ask(Trigger.LAST, at_s=9.0)
    assert kinds(hear(made, *utterance(final="Bye.", cause=EndCause.ASKED)))[-1] == "completed"


async def test_a_turn_whose_reading_fails_is_told_as_failed() -> None:
    made = await turns()
    assert list(made.fail(InferenceError("Broken."))) == []
    begun = hear(made, SpeechStarted(1.0), Partial(words("It"), (), 0.0))
    told = list(made.fail(InferenceError("Broken.")))
    assert kinds(told) == ["speech_stopped", "committed", "created", "added", "done", "failed"]
    assert told[-1]["item_id"] == begun[0]["item_id"]
    assert told[-1]["error"] == {
        "type": "server_error",
        "code": "inference_failed",
        "message": "Broken.",
        "param": None,
    }


@pytest.mark.parametrize("session", [{}, MANUAL])
async def test_times_go_on_in_the_next_live_session(session: dict[str, Any]) -> None:
    made = await turns(session)
    made.begin(made.setup, at_s=100.0, flat=False)
    made.ask(Trigger.COMMIT, at_s=103.0)
    told = hear(made, *utterance(final="Yes.", cause=EndCause.ASKED))
    if session:
        assert made.ended_s == 103.0
    else:
        assert (told[0]["audio_start_ms"], told[1]["audio_end_ms"]) == (101000, 102500)


TEXTS = st.lists(st.sampled_from(["a", "b.", "c"]), max_size=6)


@st.composite
def utterances(draw: st.DrawFn) -> tuple[list[LiveEvent], Trigger | None]:
    """One, as the live session tells it, and what its end was asked for, if it was."""
    why = draw(st.none() | st.sampled_from(Trigger))
    if why is Trigger.CLEAR and draw(st.booleans()):
        return [Cleared()], why
    cause = draw(st.sampled_from([EndCause.SILENCE, EndCause.LENGTH])) if why is None else EndCause.ASKED
    text = draw(TEXTS)
    if why is not None and not text and draw(st.booleans()):
        return [Final((), 0, cause)], why
    stable = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    told = [" ".join(text[:count]) for count in stable]
    if why is Trigger.CLEAR:
        # Of what was forgotten no end is told.
        return [SpeechStarted(1.0), *(Partial(words(one), (), 0.0) for one in told), Cleared()], why
    return utterance(*told, final=" ".join(text), cause=cause), why


@given(said=st.lists(utterances(), max_size=12), manual=st.booleans())
async def test_whatever_is_said_the_client_can_follow(
    said: list[tuple[list[LiveEvent], Trigger | None]],
    manual: bool,  # noqa: FBT001
) -> None:
    made = await turns(MANUAL if manual else {})
    told: list[Message] = []
    for number, (events, why) in enumerate(said):
        made.begin(made.setup, at_s=10.0 * number, flat=False)
        if why is not None:
            made.ask(why, at_s=10.0 * number + 5)
        told += hear(made, *events)
    follow(told)


def follow(told: list[Message]) -> None:
    """Be a client that takes the protocol at its word."""
    previous: str | None = None
    texts: dict[str, str] = {}
    started: list[str] = []
    stopped: list[str] = []
    committed: list[str] = []
    completed: list[str] = []
    dropped: set[str] = set()
    for message in told:
        match message["type"].rpartition(".")[2], message:
            case "speech_started", {"item_id": item}:
                started.append(item)
            case "speech_stopped", {"item_id": item}:
                assert item in started
                stopped.append(item)
            case "committed", {"item_id": item, "previous_item_id": before}:
                assert before == previous
                assert item not in committed
                previous = item
                committed.append(item)
            case "created" | "added" | "done", {"item": {"id": item}}:
                assert item == committed[-1]
            case "delta", {"item_id": item, "delta": delta, "content_index": 0}:
                assert item not in completed
                assert item not in dropped
                texts[item] = texts.get(item, "") + delta
            case "completed", {"item_id": item, "transcript": transcript, "content_index": 0}:
                assert item == committed[-1]
                assert texts.get(item, "") == transcript
                assert message["usage"]["seconds"] >= 0
                completed.append(item)
            case "cleared", _:
                dropped |= {*started, *texts} - {*completed}
            case "timeout_triggered", {"audio_start_ms": start, "audio_end_ms": end}:
                assert start <= end
            case other, _:
                raise AssertionError(other)
    assert committed == completed
    assert len(set(completed)) == len(completed)
    assert [item for item in started if item not in dropped] == stopped
    assert set(stopped) <= set(completed)
