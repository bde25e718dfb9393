import pytest

from parakeet_service.application.ports.speech_model import GREEDY, Decoding
from parakeet_service.domain.errors import InvalidRequestError


def test_within_its_limits_any_search_may_be_asked_for() -> None:
    assert Decoding() == GREEDY
    assert Decoding(beam_size=16, phrases=("x" * 100,) * 100).beam_size == 16
    assert len(Decoding(phrases=("x",) * 500).phrases) == 500


@pytest.mark.parametrize(
    ("beam_size", "phrases"),
    [(0, ()), (17, ()), (1, ("x",) * 501), (1, ("x" * 101,)), (1, ("x" * 100,) * 101)],
)
def test_a_search_beyond_them_is_refused(beam_size: int, phrases: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError):
        Decoding(beam_size=beam_size, phrases=phrases)
