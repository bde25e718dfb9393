"""How alike two texts are: the same words in other company may be read a little otherwise, whatever the checkpoint."""

from difflib import SequenceMatcher


def alike(one: str, other: str) -> float:
    """The share of words that two texts have in common, in order; case and punctuation count."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()
