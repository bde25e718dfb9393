"""The live benchmark takes down what it says it does."""

from typing import Any

import pytest

from benchmarks.follower import Follower
from benchmarks.speakers import Context


def word(text: str, start_s: float, end_s: float) -> dict[str, Any]:
    return {"text": text, "start": start_s, "end": end_s}


def partial(*heard: dict[str, Any], draft: str = "", lag_ms: int = 0) -> dict[str, Any]:
    return {"type": "partial", "words": list(heard), "draft": draft, "lag_ms": lag_ms}


def final(*heard: dict[str, Any]) -> dict[str, Any]:
    return {"type": "final", "words": list(heard), "text": " ".join(one["text"] for one in heard)}


ONE, TWO, THREE = word("One", 0, 0.5), word("two", 1, 1.5), word("three.", 2, 2.5)


def test_words_are_timed_from_their_ends_to_when_they_are_seen_and_when_they_stay() -> None:
    follower = Follower()
    follower.hear(partial(word("one", 0.1, 0.4), draft="one", lag_ms=100), 1.0)
    follower.hear(partial(ONE, word("too", 1, 1.4), draft="too", lag_ms=300), 2.0, unsent_s=0.5)
    follower.hear(partial(ONE, TWO, draft="two"), 2.5)
    follower.hear({"type": "speech_stopped", "at": 2.6}, 3.4)
    follower.hear(final(ONE, TWO, THREE), 3.6)

    assert follower.seen_s == pytest.approx([0.5, 1.0, 1.1])
    assert follower.stable_s == pytest.approx([1.5, 2.1, 1.1])
    assert follower.lag_s == pytest.approx([0.1, 0.8, 0.0])
    assert follower.final_s == pytest.approx([1.0])
    assert follower.texts == ["One two three."]


def test_a_word_that_is_said_again_is_another_word() -> None:
    follower = Follower()
    follower.hear(partial(ONE, draft="One"), 1.0)
    follower.hear(final(ONE, word("one", 1, 1.5)), 3.0)

    assert follower.seen_s == pytest.approx([0.5, 1.5])


def test_words_count_as_changed_that_were_shown_and_are_not_in_the_final() -> None:
    follower = Follower()
    follower.hear(partial(ONE, word("too", 1, 1.4), draft="One too"), 2.0)
    follower.hear(partial(ONE, TWO, draft="One two"), 3.0)
    follower.hear(final(ONE, TWO, THREE), 4.0)
    follower.hear(partial(word("gone", 5, 5.5), draft="gone"), 6.0)
    follower.hear(final(), 7.0)

    assert (follower.changed, follower.words) == (2, 3)


def test_utterances_begin_anew() -> None:
    follower = Follower()
    follower.hear(final(ONE), 1.0)
    follower.hear(partial(TWO), 2.0)
    follower.hear(final(TWO), 3.0)

    assert follower.stable_s == pytest.approx([0.5, 0.5])
    assert follower.final_s == []


@pytest.mark.parametrize("then", [partial(TWO), partial(ONE, draft="One"), final(TWO), final()])
def test_stable_text_that_changes_ends_the_measurement(then: dict[str, Any]) -> None:
    follower = Follower()
    follower.hear(partial(ONE), 1.0)

    with pytest.raises(SystemExit, match="stable text has changed"):
        follower.hear(then, 2.0)


def test_a_context_stands_as_it_is_given() -> None:
    assert str(Context.of("6,0.5,10")) == "6,0.5,10"
    with pytest.raises(ValueError, match="not enough"):
        Context.of("6,1")
