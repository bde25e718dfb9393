import math
from typing import Any, cast

import pytest

from parakeet_service.domain.endpointing import Endpointing
from parakeet_service.domain.errors import InvalidRequestError
from parakeet_service.domain.vad import VadParams


@pytest.mark.parametrize("param", ["silence_s", "complete_s"])
@pytest.mark.parametrize("seconds", [0.09, 60.1, math.nan, -1.0])
def test_a_silence_that_cannot_be_is_named(param: str, seconds: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Endpointing(**cast("Any", {param: seconds}))

    assert caught.value.details == {"param": param}


@pytest.mark.parametrize(("param", "value"), [("threshold", 1.1), ("prefix_padding_s", -0.1)])
def test_so_is_what_the_detector_cannot_do(param: str, value: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Endpointing(**cast("Any", {param: value}))

    assert caught.value.details == {"param": param}


def test_spans_end_with_the_utterance_or_before() -> None:
    assert Endpointing(silence_s=0.5).detection().silence_s == 0.5
    assert Endpointing(silence_s=0.3, keeps_context=True).detection() == VadParams()
    assert Endpointing(silence_s=8.0).detection().silence_s == VadParams().silence_s
    assert Endpointing(silence_s=None, threshold=0.5, prefix_padding_s=0.3).detection() == VadParams(0.5, 0.3)
