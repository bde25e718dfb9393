import pytest

from parakeet_service.domain.languages import code_of, name_of


@pytest.mark.parametrize("language", ["en", "EN", " en ", "english", "English", "en-US", "en_GB", "EN-latn-us"])
def test_many_names_mean_one_language(language: str) -> None:
    assert code_of(language) == "en"


@pytest.mark.parametrize(("language", "code"), [("German", "de"), ("xx", "xx"), ("klingon", "klingon"), ("", "")])
def test_each_language_has_its_own(language: str, code: str) -> None:
    assert code_of(language) == code


@pytest.mark.parametrize(("code", "name"), [("en", "english"), ("uk", "ukrainian"), ("xx", "xx")])
def test_a_code_has_a_name(code: str, name: str) -> None:
    assert name_of(code) == name
