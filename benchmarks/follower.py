"""What one live client sees, and when."""

from collections.abc import Sequence
from typing import Any

from parakeet_service.entrypoints.cli.live_client import Message

from .speech import words

_SAME_PLACE_S = 0.3
"""A draft may move a word by this much, and shows it all the same."""


class Follower:
    """Follows one session's messages, and takes down when each word was first shown, and when it was there to stay.

    Attributes:
        seen_s: For each word of the finals, from its end to the first message that shows it.
        stable_s: Likewise, to the message from which on it never changes.
        final_s: For each utterance, from the end of the speech to its final.
        lag_s: For each partial, audio that the service had and had not read yet.
        texts: The finals.
        words: How many words they have.
        changed: How many words were shown that no final has there.
    """

    def __init__(self) -> None:
        self.seen_s: list[float] = []
        self.stable_s: list[float] = []
        self.final_s: list[float] = []
        self.lag_s: list[float] = []
        self.texts: list[str] = []
        self.words = 0
        self.changed = 0
        self._shown: list[tuple[str, float, float]] = []
        self._stable: list[tuple[str, float]] = []
        self._stopped_s: float | None = None

    def hear(self, message: Message, at_s: float, *, unsent_s: float = 0.0) -> None:
        """Take a message that came `at_s` after the first sample was spoken, with `unsent_s` of speech not taken yet.

        Raises:
            SystemExit: Text has changed that was said to be stable.
        """
        match message["type"]:
            case "partial":
                self.lag_s.append(message["lag_ms"] / 1000 + unsent_s)
                count = len(message["words"]) - len(message["draft"].split())
                self._show(message["words"], at_s)
                self._settle(message["words"], count, at_s)
            case "speech_stopped":
                self._stopped_s = message["at"]
            case "final":
                self._show(message["words"], at_s)
                self._settle(message["words"], len(message["words"]), at_s)
                self._finish(message, at_s)
            case _:
                pass

    def _show(self, heard: Sequence[dict[str, Any]], at_s: float) -> None:
        for word in heard:
            if self._first_sight(word) is None:
                self._shown.append((_plain(word), word["start"], at_s))

    def _first_sight(self, word: dict[str, Any]) -> float | None:
        plain = _plain(word)
        same = (at for text, start, at in self._shown if text == plain and abs(start - word["start"]) <= _SAME_PLACE_S)
        return min(same, default=None)

    def _settle(self, heard: Sequence[dict[str, Any]], count: int, at_s: float) -> None:
        settled = [text for text, _ in self._stable]
        if [word["text"] for word in heard[:count]][: len(settled)] != settled:
            raise SystemExit(f"stable text has changed, from {settled} to {heard[:count]}")
        self._stable += [(word["text"], at_s) for word in heard[len(settled) : count]]

    def _finish(self, message: Message, at_s: float) -> None:
        for word, (_, stable_at_s) in zip(message["words"], self._stable, strict=True):
            seen_at_s = self._first_sight(word)
            assert seen_at_s is not None
            self.seen_s.append(seen_at_s - word["end"])
            self.stable_s.append(stable_at_s - word["end"])
        final = [(_plain(word), word["start"]) for word in message["words"]]
        self.words += len(final)
        self.changed += sum(
            not any(text == word and abs(start - at) <= _SAME_PLACE_S for word, at in final)
            for text, start, _ in self._shown
        )
        if self._stopped_s is not None and message["words"]:
            self.final_s.append(at_s - self._stopped_s)
        self.texts.append(message["text"])
        self._shown, self._stable, self._stopped_s = [], [], None


def _plain(word: dict[str, Any]) -> str:
    return "".join(words(word["text"]))
