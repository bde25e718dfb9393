"""Sub-words with case and punctuation."""

import argparse
from pathlib import Path

import sentencepiece


class Vocabulary:
    """A sentencepiece model whose piece 0 is ``<unk>`` and which has no other control tokens."""

    def __init__(self, path: Path) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def __len__(self) -> int:
        return int(self._pieces.get_piece_size())

    @property
    def pieces(self) -> list[str]:
        """All pieces, as config.json lists them."""
        return [str(self._pieces.id_to_piece(index)) for index in range(len(self))]

    def encode(self, text: str) -> list[int]:
        """Pieces of a text."""
        return [int(piece) for piece in self._pieces.encode(text)]

    def decode(self, pieces: list[int]) -> str:
        """The text of pieces."""
        return "".join(str(self._pieces.id_to_piece(piece)) for piece in pieces).replace("▁", " ").strip()


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
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,
    )


if __name__ == "__main__":
    main()
