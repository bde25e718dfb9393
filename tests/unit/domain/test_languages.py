import pytest

from parakeet_service.domain.languages import code_of, name_of


@pytest.mark.parametrize("language", ["en", "EN", " en ", "english", "English", "en-US", "en_GB", "EN-latn-us"])
def test_many_names_mean_one_language(language: str) -> None:
    assert code_of(language) == "en"


@pytest.mark.parametrize(("language", "code"), [("German", "de"), ("xx", "xx"), ("klingon", "klingon"), ("", "")])
def test_each_language_has_its_own(language: str, code: str) -> None:
    assert code_of(language) == code


@pytest.mark.parametrize(
    "language",
    [
        *(
            "",
            " ",
            "auto",
            "AUTO",
            "null",
            "none",
            "None",
            "und",
            "undefined",
            "unknown",
            "multi",
            "mul",
            "any",
            "detect",
        ),
        "auto-detect",
        "auto_detect",
        "autodetect",
        "Auto detect",
        "und-Latn",
        "default",
        '"auto"',
        "*",
        "-",
        "multilingual",
    ],
)
def test_some_values_mean_no_language_in_particular(language: str) -> None:
    assert code_of(language) == ""


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("eng English en-us en_US.UTF-8 en@euro British|English English|(US) English_US english-gb", "en"),
        ("de deu ger German Deutsch deutsch DEU de-AT Swiss|German", "de"),
        ("fr fra fre French français francais Français fr-CA", "fr"),
        ("es spa Spanish Castilian español espanol castellano es-419", "es"),
        ("pt por Portuguese português pt-BR Brazilian|Portuguese portuguese|(brazil)", "pt"),
        ("el ell gre Greek ελληνικά Ελληνικα el-GR", "el"),
        ("nl nld dut Dutch Flemish nederlands nl-BE", "nl"),
        ("cs ces cze Czech čeština cestina cs-CZ", "cs"),
        ("ro ron rum mo Romanian Moldavian Moldovan română", "ro"),
        ("sk slk slo Slovak", "sk"),
        ("sl slv Slovenian Slovene", "sl"),
        ("uk ukr Ukrainian українська uk-UA", "uk"),
        ("ru rus Russian русский", "ru"),
    ],
)
def test_every_usual_name_is_known(names: str, code: str) -> None:
    given = [name.replace("|", " ") for name in names.split()]
    assert {name: code_of(name) for name in given} == dict.fromkeys(given, code)


@pytest.mark.parametrize(("code", "name"), [("en", "english"), ("uk", "ukrainian"), ("xx", "xx")])
def test_a_code_has_a_name(code: str, name: str) -> None:
    assert name_of(code) == name
