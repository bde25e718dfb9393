from collections.abc import Sequence

import pytest
from wyoming.event import Event

from parakeet_service.application.live_codec import Close, Failed, LoopEvent, SendAudio
from parakeet_service.application.ports.speech_model import GREEDY, StreamContext
from parakeet_service.application.stream_session import LiveOptions
from parakeet_service.domain.audio import Encoding
from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.errors import AudioTooLongError, RateLimitError
from parakeet_service.domain.live import EndCause, Final, Partial, SpeechStarted
from parakeet_service.entrypoints.wyoming.audio import AudioFormat
from parakeet_service.entrypoints.wyoming.codec import (
    LONGEST_WAIT_S,
    Ending,
    TranscribeRequest,
    WyomingCodec,
    read_request,
)
from parakeet_service.entrypoints.wyoming.errors import ProtocolError
from tests.unit.domain.spoken import words

AUDIO = AudioFormat(rate=16000, width=2, channels=1)
DEFAULTS = LiveOptions(Encoding.PCM_S16LE, 16000, None, StreamContext(1, 1, 1), Endpointing())
ONE, TWO = words(("One", 0, 1)), words(("One", 0, 1), ("two.", 1, 2))
THREE = words(("Three.", 5, 6))


class Microphone:
    """A codec, and audio that comes in real time or not."""

    def __init__(self, *, by_itself: bool = True, longest_s: float = 3600) -> None:
        self.now_s = 0.0
        self.codec = WyomingCodec(
            DEFAULTS, AUDIO, Ending(by_itself, longest_s), info=lambda: Event("info"), clock=lambda: self.now_s
        )

    async def speak(self, seconds: float, *, took_s: float | None = None) -> list[type]:
        self.now_s += seconds if took_s is None else took_s
        message = Event("audio-chunk", AUDIO.model_dump(), bytes(round(32_000 * seconds)))
        return [type(command) for command in await self.codec.decode(message)]

    def hear(self, *events: LoopEvent) -> list[tuple[str, str | None]]:
        return told([told for event in events for told in self.codec.encode(event)])


def told(events: Sequence[Event]) -> list[tuple[str, str | None]]:
    return [(event.type, event.data.get("text")) for event in events]


def silent(utterance: int = 0) -> Final:
    return Final(TWO, utterance, EndCause.SILENCE)


async def test_stable_words_are_told_once_and_add_up() -> None:
    microphone = Microphone(by_itself=False)
    events = microphone.hear(
        SpeechStarted(0), Partial((), ONE, 0), Partial(ONE, (), 0), Partial(ONE, TWO[1:], 0), silent()
    )
    events += microphone.hear(Final(THREE, 1, EndCause.ASKED))
    assert events == [
        ("transcript-start", None),
        ("transcript-chunk", "One"),
        ("transcript-chunk", " two."),
        ("transcript-chunk", " Three."),
    ]
    assert told(microphone.codec.conclude()) == [("transcript", "One two. Three."), ("transcript-stop", None)]
    assert told(microphone.codec.conclude()) == []


async def test_a_live_speaker_who_pauses_gets_the_transcript_at_once() -> None:
    microphone = Microphone()
    await microphone.speak(3)
    assert microphone.hear(silent())[-2:] == [("transcript", "One two."), ("transcript-stop", None)]
    assert await microphone.speak(0.1) == [Close]
    assert microphone.codec.is_closed
    assert not microphone.codec.is_stopped
    assert microphone.hear(Final(THREE, 1, EndCause.ASKED)) == []


async def test_a_recording_that_is_sent_at_once_is_read_to_its_end() -> None:
    microphone = Microphone()
    await microphone.speak(30, took_s=1)
    assert ("transcript", "One two.") not in microphone.hear(silent())
    assert await microphone.speak(0.1) == [SendAudio]


@pytest.mark.parametrize("final", [Final((), 0, EndCause.SILENCE), Final(TWO, 0, EndCause.LENGTH)])
async def test_what_is_no_end_of_speech_ends_nothing(final: Final) -> None:
    microphone = Microphone()
    await microphone.speak(3)
    assert not [kind for kind, _ in microphone.hear(final) if kind == "transcript"]


async def test_a_microphone_that_stays_silent_is_closed() -> None:
    microphone = Microphone()
    assert await microphone.speak(LONGEST_WAIT_S) == [SendAudio]
    assert await microphone.speak(0.1) == [Close]
    assert told(microphone.codec.conclude())[1:] == [("transcript", ""), ("transcript-stop", None)]


async def test_one_that_was_spoken_into_is_not() -> None:
    microphone = Microphone()
    microphone.hear(SpeechStarted(0))
    assert await microphone.speak(LONGEST_WAIT_S + 1) == [SendAudio]


async def test_a_client_that_finds_the_end_itself_is_waited_for() -> None:
    microphone = Microphone(by_itself=False)
    await microphone.speak(LONGEST_WAIT_S + 1)
    assert ("transcript", "One two.") not in microphone.hear(silent())
    assert [type(command) for command in await microphone.codec.decode(Event("audio-stop"))] == [Close]
    assert microphone.codec.is_stopped


async def test_audio_has_a_longest_duration() -> None:
    microphone = Microphone(longest_s=10)
    await microphone.speak(10)
    with pytest.raises(AudioTooLongError):
        await microphone.speak(0.1)


async def test_audio_keeps_the_format_that_it_began_with() -> None:
    with pytest.raises(ProtocolError, match="format"):
        await Microphone().codec.decode(Event("audio-chunk", {"rate": 8000, "width": 2, "channels": 1}, b"ab"))
    with pytest.raises(ProtocolError, match="rate"):
        await Microphone().codec.decode(Event("audio-chunk", {"rate": -1, "width": 2, "channels": 1}, b"ab"))
    with pytest.raises(ProtocolError, match="again"):
        await Microphone().codec.decode(Event("audio-start", AUDIO.model_dump()))


def test_a_failure_is_told_and_no_transcript() -> None:
    microphone = Microphone()
    assert microphone.hear(Failed(RateLimitError("Too much."))) == [("error", "Too much.")]
    assert told(microphone.codec.conclude()) == []


@pytest.mark.parametrize(
    ("sensitivity", "silence_s"), [(None, 0.8), ("default", 0.8), ("aggressive", 0.4), ("relaxed", 1.6), ("odd", 0.8)]
)
def test_sensitivity_says_how_long_a_pause_ends_speech(sensitivity: str | None, silence_s: float) -> None:
    request = TranscribeRequest(language="en-US", vad_sensitivity=sensitivity)
    options = request.options(DEFAULTS, AUDIO, silence_s=0.8, searches=True)
    assert options.endpointing.silence_s == pytest.approx(silence_s)
    assert options.language == "en"
    assert request.options(DEFAULTS, AUDIO, silence_s=None, searches=True).endpointing == DEFAULTS.endpointing


def test_names_and_then_terms_are_favoured_as_many_as_may_be() -> None:
    names = ["Kitchen lamp", " ", "x" * 101, *(f"Lamp {number}" for number in range(498))]
    request = read_request(
        Event("transcribe", {"transcript_names": names, "transcript_terms": ["Kitchen lamp", "lux"]})
    )
    phrases = request.options(DEFAULTS, AUDIO, silence_s=0.8, searches=True).decoding.phrases
    assert phrases == ("Kitchen lamp", *(f"Lamp {number}" for number in range(498)), "lux")
    assert request.options(DEFAULTS, AUDIO, silence_s=0.8, searches=False).decoding == GREEDY
    many = TranscribeRequest(transcript_names=["y" * 100] * 3 + [f"{number:0100}" for number in range(200)])
    assert len(many.options(DEFAULTS, AUDIO, silence_s=0.8, searches=True).decoding.phrases) == 100
    assert TranscribeRequest().options(DEFAULTS, AUDIO, silence_s=0.8, searches=True).decoding == GREEDY


def test_a_request_whose_language_is_no_text_is_refused() -> None:
    with pytest.raises(ProtocolError, match="transcribe: language"):
        read_request(Event("transcribe", {"language": 5}))
