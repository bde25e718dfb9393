"""Which utterances may be trained on."""

import dataclasses
from collections.abc import Iterable, Iterator

from .manifests import UNKNOWN, Utterance
from .texts import cleaned, normalised


def trainable(
    utterances: Iterable[Utterance],
    *,
    forbidden: Iterable[Utterance] = (),
    longest_s: float = 35.0,
    words_per_s: tuple[float, float] = (0.4, 6.0),
) -> Iterator[Utterance]:
    """The utterances that may and can be trained on, their text cleaned.

    Left out is what a test says (the same words, whatever the case) and who speaks in one, what is longer than
    `longest_s`, what is spoken impossibly fast or slowly (the text is then not that of the audio), and text that has no
    one way to be read.
    """
    tests = list(forbidden)
    banned = {normalised(item.text) for item in tests}
    voices = {item.voice for item in tests if item.speaker != UNKNOWN}
    for item in utterances:
        text = cleaned(item.text)
        if text is None or normalised(text) in banned or item.voice in voices:
            continue
        if not 0.3 <= item.seconds <= longest_s:
            continue
        if words_per_s[0] <= len(text.split()) / item.seconds <= words_per_s[1]:
            yield dataclasses.replace(item, text=text)
