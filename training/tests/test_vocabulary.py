import json
import string
from pathlib import Path

import pytest

from training.vocabulary import Vocabulary, main


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat.\nthe mat is where the cat sat.\n" * 20, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["vocabulary", str(text), "--size", "100", "--out", str(tmp_path / "bpe")])
    main()
    return tmp_path / "bpe.model"


def test_every_letter_digit_and_mark_is_a_piece_though_no_text_has_it(model: Path) -> None:
    vocabulary = Vocabulary(model)
    assert len(vocabulary) == 100
    assert set(string.ascii_letters + string.digits + "',.?!-") <= set(vocabulary.pieces)
    said = "Isn't BOEING 1998's Quiz-X why? Yes!"
    assert vocabulary.decode(vocabulary.encode(said)) == said
    assert {vocabulary.pieces[piece] for piece in vocabulary.encode("409")} == {"▁", "4", "0", "9"}


def test_the_pieces_alone_encode_as_the_model_does(model: Path) -> None:
    vocabulary = Vocabulary(model)
    listed = model.with_name("config.json")
    listed.write_text(json.dumps({"joint": {"vocabulary": vocabulary.pieces}}), encoding="utf-8")
    for text in ("the cat sat.", "Where is Mat 7?", "On the mat!"):
        assert Vocabulary(listed).encode(text) == vocabulary.encode(text)
