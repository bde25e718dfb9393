"""Text that a speaker could read aloud: sentences out of prose, and what makes two of them the same."""

import argparse
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from .manifests import read_manifest

_ABBREVIATIONS = {
    "Mr": "Mister",
    "Mrs": "Missus",
    "Dr": "Doctor",
    "St": "Saint",
    "Messrs": "Messieurs",
    "Esq": "Esquire",
    "Capt": "Captain",
    "Col": "Colonel",
}
_MARKS = str.maketrans(
    {"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "—": ",", "–": "-", "…": ".", ";": ",", ":": ","}
)
_SPOKEN = re.compile(r"[A-Za-z][A-Za-z' ,.?!-]*")
_BOUNDARY = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def normalised(text: str) -> str:
    """The words of a text alone: lower case, letters, digits and apostrophes, one space between."""
    return " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("’", "'")))


def cleaned(text: str) -> str | None:
    """The text with the marks that the vocabulary has, or ``None`` if it holds what has no one way to be read.

    Digits, capitals in a row and other alphabets are such things. Brackets, quotation marks and marks of a
    transcriber (``((unclear))``, ``_emphasis_``, ``cut-off(-)``) go; colons and semicolons become commas.
    """
    text = re.sub(r"\(\([^)]*\)\)|\S*\(-\)\S*|\[[^]]*\]|<[^>]*>", " ", text.translate(_MARKS))
    for short, long in _ABBREVIATIONS.items():
        text = re.sub(rf"\b{short}\.", long, text)
    text = text.replace("--", ", ")
    text = re.sub(r'[_"()*%^+~]', " ", text)
    text = re.sub(r"\s+([,.?!])", r"\1", text)
    text = re.sub(r"[,.]*([,.?!])", r"\1", text)
    text = re.sub(r"([,.?!])(?=[A-Za-z])", r"\1 ", text)
    text = re.sub(r"\b([ap])\. ?m\b\.?", r"\1.m.", text)
    text = re.sub(r"\s+-+\s*|-+\s+", " ", " ".join(text.split())).strip(" ,'-")
    if not _SPOKEN.fullmatch(text) or re.search(r"[A-Z]{2}|(?:\b[A-Z]\.){2}", text):
        return None
    return text[0].upper() + text[1:]


def sentences(prose: str, *, words: tuple[int, int]) -> Iterator[str]:
    """The sentences of a text whose number of words lies in a range; longer ones give their clauses instead.

    Args:
        prose: Paragraphs, separated by empty lines.
        words: Fewest and most words of a sentence.
    """
    for paragraph in re.split(r"\n\s*\n", prose):
        flat = " ".join(paragraph.split())
        for sentence in _BOUNDARY.split(re.sub(r"\b(Mr|Mrs|Dr|St|Messrs|Capt|Col|Esq)\.", r"\1", flat)):
            restored = re.sub(r"\b(Mr|Mrs|Dr|St|Messrs|Capt|Col|Esq)\b", r"\1.", sentence)
            whole = cleaned(restored)
            if whole is None:
                continue
            parts = [whole] if len(whole.split()) <= words[1] else [part.strip() for part in whole.split(",")]
            for part in parts:
                if words[0] <= len(part.split()) <= words[1]:
                    yield part[0].upper() + part[1:] + ("" if part[-1] in ".?!" else ".")


def without(texts: Iterable[str], forbidden: Iterable[str]) -> Iterator[str]:
    """The texts that are none of the forbidden ones and occur once, compared by their words alone."""
    seen = {normalised(text) for text in forbidden}
    for text in texts:
        key = normalised(text)
        if key and key not in seen:
            seen.add(key)
            yield text


def names(sentences_: Iterable[str]) -> dict[str, str]:
    """Words that within sentences nearly always have a capital, by their small form."""
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for sentence in sentences_:
        for word in re.findall(r"[A-Za-z]+(?:'[a-z]+)?", sentence)[1:]:
            (small if word[0].islower() else capital)[word.lower()] += 1
    return {word: word.capitalize() for word, count in capital.items() if count >= 3 and count > 9 * small[word]}


def with_names(text: str, capitals: dict[str, str]) -> str:
    """A text that has no capitals but its first, with those of `names`; any other text as it is."""
    if re.search(r"[A-Z]", text[1:].replace(" I ", "").replace(" I'", "")):
        return text
    return re.sub(r"\b[a-z]+(?:'[a-z]+)?", lambda word: capitals.get(word[0], word[0]), text)


def main() -> None:
    """``python -m training.texts``: one sentence a line out of files of prose."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("prose", type=Path, nargs="+", help="text files, paragraphs separated by empty lines")
    parser.add_argument("--forbidden", type=Path, nargs="*", default=[], help="manifests whose texts must not occur")
    parser.add_argument("--words", type=int, nargs=2, default=(2, 32), help="fewest and most words")
    parser.add_argument("--limit", type=int, help="keep so many, drawn at random")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    forbidden = [utterance.text for path in arguments.forbidden for utterance in read_manifest(path)]
    found = [
        sentence
        for path in arguments.prose
        for sentence in sentences(path.read_text(encoding="utf-8"), words=tuple(arguments.words))
    ]
    kept = list(without(found, forbidden))
    if arguments.limit is not None and arguments.limit < len(kept):
        kept = random.Random(0).sample(kept, arguments.limit)  # noqa: S311 - no secret
    arguments.out.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} sentences of {len(found)}")


if __name__ == "__main__":
    main()
