"""Where a cluster is."""

import pytest

from parakeet_service.adapters.ray.local_ray import is_here
from parakeet_service.domain.errors import ModelLoadError


@pytest.mark.parametrize(
    ("address", "here"),
    [("auto", True), ("127.0.0.1:6379", True), ("localhost:6379", True), ("192.0.2.77:6379", False)],
)
def test_tells_this_machine_from_others(address: str, here: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_here(address) is here


def test_a_name_that_nobody_knows_is_a_setting_to_mend() -> None:
    with pytest.raises(ModelLoadError, match="RAY_ADDRESS: no such name:6379 cannot be found"):
        is_here("no such name:6379")
