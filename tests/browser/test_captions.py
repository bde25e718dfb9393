"""The page's captions are the service's, rule for rule."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from parakeet_service.domain.captions import to_srt, to_vtt
from parakeet_service.domain.transcript import Transcript, Word
from parakeet_service.entrypoints.http.recordings.schemas import TranscriptionBody
from tests.browser.conftest import Open

pytestmark = pytest.mark.browser

TEXTS = st.one_of(
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=14),
    st.sampled_from(
        ["a", "so.", 'so."', "so.\u2019", "so?)", "5", "<i>", "-->", "AT&T", "x" * 41, "\U0001d4b3" * 21, "x" * 50]
    ),
)
# Whole milliseconds: the service writes no others.
SPOKEN = st.lists(st.tuples(TEXTS, st.integers(0, 3000), st.integers(0, 2000)), max_size=60)
TRANSCRIPTS = st.lists(SPOKEN, min_size=200, max_size=200)

WRITE = """async (transcripts) => {
  const { toJson, toSrt, toVtt } = await import("./page/captions.js");
  return transcripts.map(([words, duration]) => [toSrt(words, duration), toVtt(words, duration), JSON.parse(toJson(words))]);
}"""


def transcript_of(spoken: list[tuple[str, int, int]]) -> Transcript:
    words: list[Word] = []
    at_ms = 0
    for text, pause_ms, lasts_ms in spoken:
        start_ms = at_ms + pause_ms
        at_ms = start_ms + lasts_ms
        words.append(Word(text, start_ms / 1000, at_ms / 1000, 1.0, ()))
    return Transcript.of(words, duration_s=at_ms / 1000 + 1)


# Each example is two hundred transcripts: what takes time is the way to the browser and back.
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
@given(transcripts=TRANSCRIPTS)
def test_words_are_written_as_the_service_writes_them(
    service: str, open_page: Open, transcripts: list[list[tuple[str, int, int]]]
) -> None:
    page = open_page(service)
    ours = [transcript_of(spoken) for spoken in transcripts]
    bodies: list[Any] = [
        json.loads(TranscriptionBody.of(one, timestamps="word").model_dump_json(exclude_none=True)) for one in ours
    ]
    given_to_page = [[body["timestamps"]["words"], one.duration_s] for one, body in zip(ours, bodies, strict=True)]
    theirs = page.evaluate(WRITE, given_to_page)
    page.context.close()
    for transcript, body, (srt, vtt, parsed) in zip(ours, bodies, theirs, strict=True):
        assert srt == to_srt(transcript)
        assert vtt == to_vtt(transcript)
        assert parsed == body
