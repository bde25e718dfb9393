import numpy as np

from parakeet_service.adapters.onnx.ctc import greedy_ctc

BLANK = 3


def heard(best: list[int]) -> list[tuple[int, int, int]]:
    logits = np.full((len(best), BLANK + 1), -4, np.float32)
    logits[np.arange(len(best)), best] = 4
    return [(emission.token, emission.frame, emission.frames) for emission in greedy_ctc(logits, BLANK)]


def test_joins_repeats_and_lasts_until_the_next_token() -> None:
    assert heard([3, 1, 1, 3, 2, 2, 2, 3, 3]) == [(1, 1, 3), (2, 4, 3)]


def test_a_blank_parts_equal_tokens() -> None:
    assert heard([1, 3, 1, 1]) == [(1, 0, 2), (1, 2, 2)]


def test_hears_nothing_in_blanks_or_in_nothing() -> None:
    assert heard([3, 3, 3]) == []
    assert heard([]) == []


def test_is_sure_of_what_stands_out() -> None:
    logits = np.zeros((2, BLANK + 1), np.float32)
    logits[0, 1], logits[1, 2] = 30, 0.1
    sure, unsure = greedy_ctc(logits, BLANK)
    assert sure.probability > 0.999
    assert unsure.probability < 0.01
