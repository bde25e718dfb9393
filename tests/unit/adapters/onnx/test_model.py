import pytest

from parakeet_service.adapters.onnx.model import threads_on


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 2), (4, 3), (16, 15)])
def test_leaves_a_core_to_the_rest_where_there_are_more_than_two(cores: int, threads: int) -> None:
    assert threads_on(cores) == threads
