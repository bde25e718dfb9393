import pytest

from tests.conformance.table import DOCUMENT, document


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_the_page_says_what_the_service_does() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `python -m tests.conformance`"
