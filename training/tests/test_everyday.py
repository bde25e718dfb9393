import random
import re
from pathlib import Path

import pytest

from training.everyday import Grammar, main


@pytest.mark.parametrize("group", Grammar().patterns)
def test_every_pattern_makes_a_sentence_that_can_be_read_aloud(group: str) -> None:
    grammar = Grammar()
    chance = random.Random(1)
    for pattern in grammar.patterns[group]:
        for _ in range(30):
            made = grammar.of(pattern, chance)
            assert re.fullmatch(r"[A-Z][A-Za-z' ,.?!-]*[.?!]", made), f"{pattern!r} made {made!r}"
            assert not re.search(r"  | [,.?!]|[,.?!]{2}|\b[Aa] [aeio](?!u|ne\b|s in\b|,)", made.replace("m.,", "m,")), (
                made
            )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("(one|one) a owl sees a (eagle|eagle)", "One an owl sees an eagle"),
        ("A as in alpha, a unit, a European, a A", "A as in alpha, a unit, a European, a A"),
        ("no(| more)(|).", {"No.", "No more."}),
        ("(six|six (p.m.|p.m.)), then go(!|!).", {"Six, then go!", "Six p.m., then go!"}),
    ],
)
def test_a_pattern_chooses_and_says_an_before_a_vowel(pattern: str, expected: str | set[str]) -> None:
    made = {Grammar().of(pattern, random.Random(seed)) for seed in range(20)}
    assert made == (expected if isinstance(expected, set) else {expected})


def test_words_of_ones_own_are_said_too() -> None:
    grammar = Grammar({"weekday": ["Someday"] * 1000})
    assert grammar.of("{weekday}", random.Random(0)) == "Someday"
    with pytest.raises(ValueError, match="no pattern has words of the kind colour"):
        Grammar({"colour": ["red"]})


def test_the_sentences_are_different_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "towns.txt").write_text("Xanadu\nXanadu\n", encoding="utf-8")
    made: list[list[str]] = []
    for name in ("one.txt", "two.txt"):
        out = tmp_path / name
        words = f"town={tmp_path / 'towns.txt'}"
        monkeypatch.setattr("sys.argv", ["everyday", "--count", "500", "--words", words, "--out", str(out)])
        main()
        made.append(out.read_text(encoding="utf-8").splitlines())
    assert made[0] == made[1]
    assert len(set(made[0])) == 500
    assert any("Xanadu" in line for line in made[0])
