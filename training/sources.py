"""Prose out of packages of data, whose texts lie in forms of their own: paragraphs for `training.texts`."""

import argparse
import json
import re
import zlib
from bz2 import BZ2Decompressor
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .texts import names, with_names

_SHORT = {
    **{
        word: word[:-1] + "'t"
        for word in ["dont", "cant", "wont", "didnt", "doesnt", "isnt", "wasnt", "couldnt", "wouldnt", "shouldnt"]
    },
    **{word: word[:-1] + "'t" for word in ["havent", "hasnt", "hadnt", "arent", "werent", "aint"]},
    "im": "I'm",
    "ive": "I've",
    "youre": "you're",
    "theyre": "they're",
    "youve": "you've",
    "thats": "that's",
    "whats": "what's",
    "theres": "there's",
    "lets": "let's",
    "hes": "he's",
    "shes": "she's",
    "i": "I",
    "id": "I'd",
    "i'm": "I'm",
    "i've": "I've",
    "i'll": "I'll",
    "i'd": "I'd",
    "ok": "okay",
    "u": "you",
    "ur": "your",
    "r": "are",
    "gonna": "gonna",
    "wanna": "wanna",
    "yea": "yeah",
    "alot": "a lot",
    "cuz": "because",
    "thx": "thanks",
}
_COARSE = re.compile(
    r"(?i)fuck|shit|bitch|\bass\b|asshole|dick|pussy|porn|\bsex|rape|nazi|hitler|suicid|whore|slut|nigg|fag|\btits"
)
_ASKS = re.compile(
    r"(?i)(?:(?:so|and|but|oh|well|yeah|hey|wow|cool|nice),? )?(?:what|who|where|when|why|how|which|do|does|did|are|is|"
    r"was|were|can|could|would|will|have|has|should)\b(?!.*\b(?:lol|haha)\b)"
)


def factbook(path: Path) -> Iterator[str]:
    """The texts of the World Factbook's countries, one JSON file each."""
    for file in sorted(path.rglob("??.json")):
        yield from _strings(json.loads(file.read_text(encoding="utf-8")), "text")


def examples(path: Path) -> Iterator[str]:
    """WordNet's example sentences."""
    for file in sorted(path.glob("data.*")):
        yield from re.findall(r'"([^"]+)"', file.read_text(encoding="latin-1"))


def definitions(path: Path) -> Iterator[str]:
    """WordNet's definitions of things, said as sentences, such as: A kite is a bird of prey."""
    for line in (path / "data.noun").read_text(encoding="latin-1").splitlines():
        head, _, gloss = line.partition(" | ")
        meaning = re.split(r'[;"]', gloss)[0].strip()
        word = head.split()[4].replace("_", " ") if len(head.split()) > 4 else ""
        if word.islower() and re.fullmatch(r"(?:a|an|the|any|one) [^()]+", meaning):
            yield f"{'An' if word[0] in 'aeiou' else 'A'} {word} is {meaning}."


def novels(path: Path) -> Iterator[str]:
    """The strings that an R package's data hold: the lines of Debian's `r-cran-janeaustenr`, paragraph by paragraph."""
    for database in sorted(path.rglob("Rdata.rdb")):
        lines = [
            text.decode("utf-8", "replace") for block in _blocks(database.read_bytes()) for text in _characters(block)
        ]
        yield from "\n".join(lines).split("\n\n")


def chat(path: Path) -> Iterator[str]:
    """The messages of `chitchat-dataset`, as they were typed."""
    for talk in json.loads(next(path.rglob("dataset.json")).read_text(encoding="utf-8")).values():
        yield from _strings(talk["messages"], "text")


def assistants(path: Path) -> Iterator[str]:
    """What voice assistants are asked (`*.intent`) and answer (`*.dialog`): lines without anything to fill in."""
    for file in sorted(path.rglob("*")):
        if file.suffix in {".intent", ".dialog"} and re.search(r"en-us", str(file), re.IGNORECASE):
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.strip() and not re.search(r"[{}()|\[\]]", line):
                    yield typed(line) if file.suffix == ".intent" else line


def dialogues(path: Path) -> Iterator[str]:
    """The English lines of `chatterbot-corpus`."""
    for file in sorted(path.rglob("english/*.yml")):
        yield from re.findall(r"(?m)^ *-(?: -)? +['\"]?(.+?)['\"]?$", file.read_text(encoding="utf-8"))


def lines(path: Path) -> Iterator[str]:
    """The lines of a file, each a paragraph."""
    yield from path.read_text(encoding="utf-8").splitlines()


def typed(text: str) -> str:
    """A message with the apostrophes, the `I` and the mark at its end that are left out in typing."""
    text = re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])", "", text)
    words = [_SHORT.get(word.lower(), word) for word in re.findall(r"[\w']+|[^\w\s]+|\s+", text.strip())]
    said = re.sub(r"\s+", " ", re.sub(r"([.!?])[.!?]+", r"\1", "".join(words))).strip()
    if said and said[-1] not in ".!?":
        said += "?" if _ASKS.match(said) else "."
    return said[:1].upper() + said[1:]


def proper(paragraphs: Iterable[str], known: Counter[str]) -> Iterator[str]:
    """Those without a word that edited prose does not have twice, or that a public service would not say."""
    for text in paragraphs:
        words = re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())
        if words and all(known[word] > 1 for word in words) and not _COARSE.search(text):
            yield text


def _strings(of: Any, key: str) -> Iterator[str]:
    if isinstance(of, dict):
        if isinstance(of.get(key), str):
            yield of[key]
        of = list(of.values())
    if isinstance(of, list):
        for item in of:
            yield from _strings(item, key)


def _blocks(content: bytes) -> Iterator[bytes]:
    """What R has compressed, block after block: four bytes of length before each, and one that says how, or none."""
    while content:
        opened: Any = BZ2Decompressor() if content[4:5] == b"2" else zlib.decompressobj()
        yield opened.decompress(content[5:] if content[4:5] == b"2" else content[4:])
        content = opened.unused_data


def _characters(block: bytes) -> Iterator[bytes]:
    """The strings of R's serialised form: flags and type 9, four bytes of length, characters."""
    for found in re.finditer(rb"(?s)\x00\x04\x00\x09(....)|\x00\x00\x80\x09(....)", block):
        length = int.from_bytes(found[1] or found[2], "big", signed=True)
        yield block[found.end() : found.end() + max(length, 0)]


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {
    reader.__name__: reader for reader in (factbook, examples, definitions, novels, chat, assistants, dialogues, lines)
}


def main() -> None:
    """``python -m training.sources``: what one package says, paragraphs with empty lines between."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("path", type=Path, help="the directory of the unpacked package, or a file for `lines`")
    parser.add_argument("--known", type=Path, nargs="*", help="prose whose words alone may occur, in what was typed")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    paragraphs = KINDS[arguments.kind](arguments.path)
    if arguments.known:
        edited = [line for path in arguments.known for line in path.read_text(encoding="utf-8").splitlines()]
        known = Counter(word for line in edited for word in re.findall(r"[a-z]+(?:'[a-z]+)?", line.lower()))
        capitals = names(edited)
        paragraphs = (with_names(text, capitals) for text in proper(map(typed, paragraphs), known))
    arguments.out.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
