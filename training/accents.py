"""English as people of other tongues say it: a sound that their own lacks becomes its neighbour."""

import random

_SWAPS = (
    ("θ", "s"),
    ("θ", "t"),
    ("θ", "f"),
    ("ð", "d"),
    ("ð", "z"),
    ("v", "w"),
    ("v", "b"),
    ("w", "v"),
    ("z", "s"),
    ("ʒ", "ʃ"),
    ("dʒ", "tʃ"),
    ("ʃ", "s"),
    ("ŋ", "n"),
    ("h", ""),
    ("ɹ", "ɾ"),
    ("ɹ", "l"),
    ("ɾ", "t"),
    ("d ", "t "),
    ("d ", "də "),
    ("t ", "tə "),
    ("l ", "ʊ "),
    ("ɪ", "i"),
    ("iː", "ɪ"),
    ("æ", "ɛ"),
    ("æ", "a"),
    ("ʌ", "a"),
    ("ʊ", "u"),
    ("ɚ", "a"),
    ("ɜː", "ɛ"),
    ("ə", "a"),
    ("eɪ", "eː"),
    ("oʊ", "oː"),
    ("ɔː", "oʊ"),
    ("ː", ""),
)
"""What is commonly described of learners whose first language is Mandarin, Japanese, Hindi, Spanish, French or German.

In espeak-ng's letters; each swap leaves the number of words as it is.
"""


def accented(phonemes: str, chance: random.Random) -> str:
    """The phonemes of a line with some sounds taken for others, the same ones all through."""
    for sound, neighbour in chance.sample(_SWAPS, chance.randint(2, 6)):
        phonemes = phonemes.replace(sound, neighbour)
    return phonemes
