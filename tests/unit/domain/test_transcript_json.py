import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.domain.recording_warnings import DamagedAudio, FurtherTracks, UnderstatedLength
from parakeet_service.domain.transcript import Token, Transcript, words_of
from parakeet_service.domain.transcript_json import dump_tokens, dump_transcript, load_tokens, load_transcript
from parakeet_service.domain.vad import VadScores

_TIMES = st.floats(0, 1e5, allow_nan=False)
_TOKENS = st.lists(
    st.builds(Token, st.integers(0, 9000), st.text(max_size=5), _TIMES, _TIMES, st.floats(0, 1)), max_size=20
)


@given(_TOKENS)
def test_tokens_are_read_as_they_were_written(tokens: list[Token]) -> None:
    assert load_tokens(dump_tokens(tokens)) == tuple(tokens)


@given(tokens=_TOKENS, heard=st.booleans())
def test_a_transcript_is_read_as_it_was_written(*, tokens: list[Token], heard: bool) -> None:
    speech = VadScores(np.array([0.25, 0.5], np.float32), 1.0) if heard else None
    warnings = (FurtherTracks(1, ("eng", "ger")), DamagedAudio(), UnderstatedLength(2.5))
    transcript = Transcript.of(words_of(tokens), duration_s=1e5, speech=speech, warnings=warnings)
    assert load_transcript(dump_transcript(transcript)) == transcript


def test_refuses_the_form_of_a_newer_service() -> None:
    form = json.loads(dump_transcript(Transcript.of((), duration_s=1.0)))
    with pytest.raises(ValueError, match="version 2"):
        load_transcript(json.dumps(form | {"version": 2}))
