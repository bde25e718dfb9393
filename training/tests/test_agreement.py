from pathlib import Path

import pytest

from training.agreement import OWN, compared, same

_SOURCES = Path(__file__).parents[2] / "src"


# parakeet-mlx leaves the file that it reads its configuration from to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*config.json.*:pytest.PytestUnraisableExceptionWarning")
def test_all_read_the_embedded_checkpoint_alike() -> None:
    [(_, here, others)] = compared(
        _SOURCES / "assets" / "parakeet-tdt-tiny", [_SOURCES / "assets" / "samples" / "demo.wav"]
    )
    assert len(here.split()) > 5
    assert [name for name, text in others.items() if not same(here, text) and name != OWN] == []


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("so,.", "so.", False),
        ("<unk>so.", "so.", True),
        ("so?", "so.", False),
        ("So", "so", False),
        ("3.5", "35", False),
    ],
)
def test_texts_are_compared_but_for_what_the_service_leaves_out(one: str, other: str, *, alike: bool) -> None:
    assert same(one, other) is alike
