"""Sub-words with case and punctuation."""

import argparse
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as format_

REQUIRED = string.ascii_letters + string.digits + "',.?!-"
"""Letters, digits and marks that a vocabulary has as pieces of their own, whether the texts have them or not."""


class Vocabulary:
    """A sentencepiece model whose piece 0 is ``<unk>`` and which has no other control tokens."""

    def __init__(self, path: Path) -> None:
        """Read a model, or the pieces that a ``config.json`` lists."""
        if path.suffix == ".json":
            pieces = json.loads(path.read_text(encoding="utf-8"))["joint"]["vocabulary"]
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=_from_pieces(pieces))
        else:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self._letters = {piece for piece in self.pieces if len(piece) == 1} | {" "}

    def __len__(self) -> int:
        return int(self._pieces.get_piece_size())

    @property
    def pieces(self) -> list[str]:
        """All pieces, as config.json lists them."""
        return [str(self._pieces.id_to_piece(index)) for index in range(len(self))]

    def encode(self, text: str) -> list[int]:
        """Pieces of a text; letters that there are not in this case are taken in the other, or left out."""
        known = (letter if letter in self._letters else letter.lower() for letter in text.replace("?", self._asked))
        text = "".join(letter for letter in known if letter in self._letters)
        return [int(piece) for piece in self._pieces.encode(text)]

    def spread(self, pieces: list[int], bounds: Sequence[int]) -> list[int]:
        """What is said of each word of a text, for each of the text's pieces; zeros where nothing is."""
        word = -1
        words: list[int] = []
        for piece in pieces:
            word += str(self._pieces.id_to_piece(piece)).startswith("▁")
            words.append(word)
        # Of a word of which no letter is in the vocabulary there is no piece either.
        return [bounds[word] for word in words] if word + 1 == len(bounds) else [0] * len(pieces)

    @property
    def _asked(self) -> str:
        return "?" if "?" in self._letters else "."

    def decode(self, pieces: list[int]) -> str:
        """The text of pieces."""
        return "".join(str(self._pieces.id_to_piece(piece)) for piece in pieces).replace("▁", " ").strip()


def _from_pieces(pieces: list[str]) -> bytes:
    """A byte-pair model of pieces in the order in which they were merged."""
    messages: Any = format_  # its classes are made when it is imported
    model = messages.ModelProto()
    model.trainer_spec.model_type = messages.TrainerSpec.BPE
    model.trainer_spec.unk_id = 0
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = model.trainer_spec.pad_id = -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    for place, piece in enumerate(pieces):
        kinds = messages.ModelProto.SentencePiece
        kind = kinds.UNKNOWN if place == 0 else kinds.NORMAL
        model.pieces.add(piece=piece, score=0.0 if place == 0 else float(1 - place), type=kind)
    return bytes(model.SerializeToString())


def main() -> None:
    """``python -m training.vocabulary``: byte-pair encoding of sentences, one a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True, help="without suffix")
    arguments = parser.parse_args()
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(str(path) for path in arguments.text),
        model_prefix=str(arguments.out),
        vocab_size=arguments.size,
        model_type="bpe",
        character_coverage=1.0,
        required_chars=REQUIRED,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
    )


if __name__ == "__main__":
    main()
