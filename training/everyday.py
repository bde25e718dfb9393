"""Sentences of daily life, made up: what novels and almanacs do not say, with names, numbers, times and orders."""

import argparse
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"\(([^()]*)\)")
_AN = re.compile(r"\b([Aa]) (?=[aeiouAEIO])(?!as in\b|one\b|[AEIO]\b|[Ee]u|uni|us)")


class Grammar:
    """Patterns and words of ``everyday.toml``."""

    def __init__(self, words: Mapping[str, Sequence[str]] | None = None) -> None:
        """Read the file.

        Args:
            words: Further words by their kind.

        Raises:
            ValueError: There are further words of a kind that no pattern knows.
        """
        read = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
        self._words = {kind: _alternatives(listed) for kind, listed in read["words"].items()}
        for kind, more in (words or {}).items():
            if kind not in self._words:
                raise ValueError(f"no pattern has words of the kind {kind}")
            self._words[kind] = [*self._words[kind], *more]
        self.patterns: dict[str, list[str]] = {
            group: patterns.strip().splitlines() for group, patterns in read["patterns"].items()
        }
        self._weights = [read["weights"][group] for group in self.patterns]

    def sentence(self, chance: random.Random) -> str:
        """One sentence, its first letter a capital."""
        group = chance.choices(list(self.patterns), self._weights)[0]
        return self.of(chance.choice(self.patterns[group]), chance)

    def of(self, pattern: str, chance: random.Random) -> str:
        """A sentence of one pattern."""
        text = pattern
        while _SLOT.search(text) or _CHOICE.search(text):
            text = _CHOICE.sub(lambda found: chance.choice(found[1].split("|")), text, count=1)
            text = _SLOT.sub(lambda found: chance.choice(self._words[found[1]]), text, count=1)
        text = re.sub(r" +([,.?!])", r"\1", re.sub(r" +", " ", text)).strip()
        text = re.sub(r"[,.]*([.?!])[.?!]*$", r"\1", text)
        text = _AN.sub(r"\1n ", text)
        return text[0].upper() + text[1:]


def _alternatives(listed: str) -> list[str]:
    """What stands between bars, those in brackets left alone."""
    return [word.strip() for word in re.split(r"\|(?![^(]*\))", " ".join(listed.split()))]


def main() -> None:
    """``python -m training.everyday``: so many different sentences, one a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--words", nargs="*", default=[], metavar="KIND=FILE", help="further words, one a line")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    further = dict(pair.split("=", 1) for pair in arguments.words)
    grammar = Grammar({kind: Path(file).read_text(encoding="utf-8").split("\n") for kind, file in further.items()})
    chance = random.Random(0)  # noqa: S311 - no secret
    made: dict[str, None] = {}
    while len(made) < arguments.count:
        made[grammar.sentence(chance)] = None
    arguments.out.write_text("\n".join(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
