"""The embedded model, through the official client: what is made up elsewhere is heard here."""

import wave
from collections.abc import Generator

import pytest
from openai.types.audio import TranscriptionVerbose

from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.bootstrap.app import build_app
from parakeet_service.domain.audio import Encoding, PcmReader
from tests.conformance.calls import Callers, Heard, callers
from tests.conformance.realtime import COMMIT, COMPLETED, appends, talk, update
from tests.conformance.serving import served
from tests.integration.processes import SAMPLE, wait_until_ok
from tests.unit.entrypoints.http.openai.realtime.test_turns import follow
from tests.unit.entrypoints.world import a_settings

WORDS = {"the", "first", "books", "were", "printed", "in", "city"}


@pytest.fixture(scope="module")
def listening() -> Generator[Callers]:
    # Short chunks, so that there is something to stream.
    app = build_app(a_settings(model_id="embedded", chunk_duration=6, log_level="ERROR", log_format="json"))
    with served(app) as service:
        wait_until_ok(f"{service.url}/readyz")
        with callers(service.url) as client:
            yield client


def test_streamed_text_is_the_text_and_words_and_segments_belong_to_it(listening: Callers) -> None:
    file = ("demo.wav", SAMPLE.read_bytes())
    streamed = listening.transcribe({"file": file, "stream": True, "include": ["logprobs"]})
    verbose = listening.transcribe(
        {"file": file, "response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    )
    assert isinstance(streamed, Heard)
    assert isinstance(verbose, TranscriptionVerbose)
    assert set(verbose.text.lower().replace(".", "").replace(",", "").split()) >= WORDS
    assert streamed.done.text == verbose.text
    assert len(streamed.deltas) > 1

    logprobs = [one.logprob for one in streamed.done.logprobs or ()]
    assert all(one is not None and -25 < one <= 0 for one in logprobs)
    assert len(set(logprobs)) > len(logprobs) / 2

    assert verbose.words is not None
    assert verbose.segments is not None
    assert " ".join(word.word for word in verbose.words) == verbose.text
    assert "".join(segment.text for segment in verbose.segments).strip() == verbose.text
    times = [time for word in verbose.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[-1] <= verbose.duration
    assert all(-10 < segment.avg_logprob < 0 < segment.compression_ratio for segment in verbose.segments)


@pytest.fixture(scope="module")
def spoken() -> bytes:
    # As OpenAI's clients send it.
    with wave.open(str(SAMPLE)) as recording:
        samples = PcmReader(Encoding.PCM_S16LE).read(recording.readframes(recording.getnframes()))
    resampled = SoxrResampler().open(from_hz=16000, to_hz=24000).resample(samples, last=True)
    return (resampled * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize(("delay", "deltas"), [({}, 1), ({"delay": "minimal"}, 2)])
def test_realtime_text_is_the_text(listening: Callers, spoken: bytes, delay: dict[str, str], deltas: int) -> None:
    setup = update(transcription=delay, turn_detection=None)
    heard = talk(listening.url, [setup, *appends(spoken), COMMIT, COMPLETED])
    (text,) = heard.transcripts
    assert "".join(delta["delta"] for delta in heard.of("delta")) == text
    assert set(text.lower().replace(".", "").replace(",", "").split()) >= WORDS
    assert len(heard.of("delta")) >= deltas


def test_realtime_turns_end_where_nobody_speaks(listening: Callers, spoken: bytes) -> None:
    pause = bytes(2 * 24000 * 2)
    setup = update(turn_detection={"type": "server_vad", "silence_duration_ms": 1500})
    heard = talk(listening.url, [setup, *appends((spoken + pause) * 2), COMPLETED, COMPLETED])
    assert len(heard.transcripts) == 2
    assert all(set(text.lower().replace(".", "").replace(",", "").split()) >= WORDS for text in heard.transcripts)
    follow([event for event in heard.heard if event["type"].startswith(("input_audio", "conversation"))])
