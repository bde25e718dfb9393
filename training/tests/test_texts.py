from pathlib import Path

import pytest

from training.manifests import Utterance, read_manifest, write_manifest
from training.selection import trainable
from training.texts import cleaned, names, normalised, sentences, with_names, without


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("  hello   there ", "Hello there"),
        ("Mr. Darcy; and Mrs. Long.", "Mister Darcy, and Missus Long."),
        ("It was -- he said -- over.", "It was, he said, over."),
        ("(( )) I work at _ThinkEngine.", "I work at ThinkEngine."),
        ("Why(-), eh, ((Voyager)).", "Eh."),
        ("By six p.m., or at ten a.m.", "By six p.m., or at ten a.m."),
        ("Is it four p.m?", "Is it four p.m.?"),
        ("In 1066 it began.", None),
        ("The FBI came.", None),
        ("Ein schöner Tag.", None),
    ],
)
def test_text_is_made_readable_or_left_out(given: str, expected: str | None) -> None:
    assert cleaned(given) == expected


def test_words_alone_are_compared() -> None:
    assert normalised("It's “late”, Anna!") == normalised("it's late anna") == "it's late anna"


def test_long_sentences_give_their_clauses() -> None:
    prose = "Short one. When the rain had stopped at last, they walked home, and nobody in the house said a word until the morning."
    assert list(sentences(prose, words=(2, 8))) == [
        "Short one.",
        "When the rain had stopped at last.",
        "They walked home.",
    ]


def test_what_a_test_says_and_what_was_said_before_is_left_out() -> None:
    assert list(without(["One two.", "one TWO", "Three."], ["three"])) == ["One two."]


def test_small_letters_get_the_capitals_of_names() -> None:
    capitals = names(
        ["We saw Kate in China.", "Then Kate left China.", "So Kate says, I like China.", "The china broke."]
    )
    assert capitals == {"kate": "Kate"}, "china may be a dish"
    assert (
        with_names("It was kate's, said kate.", capitals | {"t": "T", "kate's": "Kate's"})
        == "It was Kate's, said Kate."
    )
    assert with_names("He and i saw Mr kate.", capitals) == "He and i saw Mr kate.", "it has capitals of its own"


def utterance(text: str, seconds: float = 3.0, speaker: str = "anna") -> Utterance:
    return Utterance(Path("a.wav"), seconds, "corpus", speaker, text)


def test_trains_on_no_sentence_and_no_speaker_of_a_test() -> None:
    spoken = [utterance("Hello there."), utterance("Good bye."), utterance("Good bye.", speaker="ben")]
    kept = list(trainable(spoken, forbidden=[utterance("HELLO, there!", speaker="ben")]))
    assert kept == [utterance("Good bye.")]


def test_speakers_without_a_name_are_not_taken_for_one() -> None:
    spoken = [utterance("Good bye.", speaker="unknown")]
    assert list(trainable(spoken, forbidden=[utterance("Hello there.", speaker="unknown")])) == spoken


@pytest.mark.parametrize("seconds", [0.1, 36.0, 20.0])
def test_leaves_out_what_cannot_be_what_is_said(seconds: float) -> None:
    assert list(trainable([utterance("Well, hello there.", seconds)])) == []


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    item = Utterance(tmp_path / "a.wav", 3.0, "corpus", "anna", 'He said "no", it\'s late.')
    write_manifest(tmp_path / "list.tsv", [item])
    assert read_manifest(tmp_path / "list.tsv") == [item]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("path\tseconds\ttext\na.wav\t1\tOne.\n", r"list\.tsv: the first line names no column file"),
        ("", "no column file, seconds, text"),
        ("file\tseconds\ttext\na.wav\t1\tOne.\nb.wav\tone\tOne.\n", r"list\.tsv, line 3: .*'one'"),
    ],
)
def test_says_what_is_wrong_with_a_manifest(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "list.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        read_manifest(tmp_path / "list.tsv")
