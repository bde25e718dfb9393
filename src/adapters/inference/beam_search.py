"""Beam search of transducers in numpy: several readings are kept, and phrases may be favoured.

From the same features it gives the tokens and times of parakeet-mlx's `decode_beam`, which waits for the device
several times a step and, once begun, goes on to the end.

Source: the search that parakeet.py of parakeet-mlx 0.7 (Apache-2.0) makes for its configuration `Beam`.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from .boosting import Booster
from .decoding import DecoderState, Emission, SearchProgress
from .phrases import PhraseState

Floats: TypeAlias = NDArray[np.float32]

_DURATION_REWARD = 0.7
"""How much of a TDT model's score durations are; tokens are the rest."""
_LENGTH_PENALTY = 1.0
"""Power of the number of tokens by which scores of readings of different length are compared."""
_PATIENCE = 1.0
"""Readings that must reach the end before the search does, as a multiple of the beam's size."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the prediction network says after the tokens so far; for several readings, with an axis for them.

    Attributes:
        output: Projected for the joint network, shape ``([readings,] joint width)``.
        hidden, cell: The LSTM's state, were the next token emitted, shape ``(layers, [readings,] width)``.
    """

    output: Floats
    hidden: Floats
    cell: Floats


class SearchNetwork(Protocol):
    """A transducer's prediction and joint networks, for several readings at once."""

    @property
    def blank(self) -> int:
        """The blank's index: it follows the vocabulary."""
        ...

    def predict(self, last: NDArray[np.int64], hidden: Floats, cell: Floats) -> Prediction:
        """One step of the prediction network.

        Args:
            last: The last token of each reading; the blank at the beginning.
            hidden: LSTM output of every layer before `last`, shape ``(layers, readings, width)``.
            cell: LSTM cell, likewise.
        """
        ...

    def join(self, frame: Floats, output: Floats) -> Floats:
        """Logits: tokens, the blank, durations; from projected frames and `Prediction.output`, a row each."""
        ...


@dataclass(eq=False, slots=True, weakref_slot=True)
class _Reading:
    """The tokens so far. There is one for each sequence of tokens, whatever the frames at which they were emitted.

    Attributes:
        before: The reading without its last token, whose state of the network this one goes on from.
        last: The last token; the blank if there is none.
        count: How many tokens.
        boost: What favoured phrases have added.
        phrases: Where the booster stands.
        longer: Readings with one more token, as long as anybody holds them; made when there is one, for most readings
            are dropped at once.
        prediction: What the network says after it, once it has been asked.
    """

    before: "_Reading | None"
    last: int
    count: int
    boost: float
    phrases: PhraseState | None
    longer: "WeakValueDictionary[int, _Reading] | None" = None
    prediction: Prediction | None = None


@dataclass(slots=True)
class _Trail:
    """The emissions of a hypothesis, last first, and its score with each."""

    emission: Emission
    score: float
    before: "_Trail | None"


@dataclass(slots=True)
class _Hypothesis:
    """A reading, and how far it has come.

    Attributes:
        frame: The frame at which it looks next.
        repeats: Steps since it moved on.
        score: Logarithm of its likelihood, weighted, without the boost.
    """

    reading: _Reading
    trail: _Trail | None
    frame: int
    repeats: int
    score: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search has read.

    Attributes:
        emissions: Of the best reading, in order; their probabilities are those of the tokens alone.
        final: How many of them are final.
        state: Behind these, at the frame where the draft begins.
    """

    emissions: tuple[Emission, ...]
    final: int
    state: DecoderState


class SearchDecoder:
    """See the module; computes in float32, on the thread that calls it.

    Attributes:
        token_share: The weight of a token's logarithm in a score: what boosts compete with.
        longest_move: Frames that a token may take; 0 for a plain transducer.
    """

    def __init__(
        self, network: SearchNetwork, *, durations: Sequence[int], most_repeats: int, start: DecoderState
    ) -> None:
        """Search with a network.

        Args:
            network: The model's.
            durations: Frames that each output of the duration head stands for; none for a plain transducer.
            most_repeats: Tokens in one place after which decoding moves on.
            start: The state before the first frame.
        """
        self._network = network
        self._blank = network.blank
        self._durations = tuple(durations)
        self._most_repeats = most_repeats
        self._start = start
        self.token_share = 1 - _DURATION_REWARD if self._durations else 1.0
        self.longest_move = max(self._durations, default=0)

    def search(
        self,
        projected: Floats,
        begin: int,
        end: int,
        *,
        beam_size: int,
        booster: Booster | None = None,
        linger: int = 0,
        state: DecoderState | None = None,
        final_until: int | None = None,
    ) -> Generator[None, None, Searched]:
        """Read frames ``[begin, end)``; after each step it yields.

        What of the best reading lies before `final_until` is final: a search that goes on from there has it as its one
        hypothesis, with the score that it had, so that pieces read as the whole does.

        Args:
            projected: Frames of one item as the joint network takes them, shape ``(frames, joint width)``.
            begin: First frame to read.
            end: Frame before which to stop.
            beam_size: Hypotheses that are kept at each step, at least 1.
            booster: What to favour.
            linger: How often the last frame is looked at again. With none the search is upstream's, and loses the
                last words where speech ends with the frames: hypotheses that move over the end in one long step
                arrive before those that have yet to speak, and the first to arrive are all that is waited for.
            state: Where to go on from; by default nothing lies before the frames.
            final_until: Frame from which on the emissions are a draft; by default there is none.
        """
        state = state or self._start
        root = self._root(state, booster)
        best = _Hypothesis(root, None, 0, 0, 0.0 if state.search is None else state.search.score)
        frames = projected[begin + state.skip : end]
        if len(frames):
            frames = np.concatenate([frames, np.repeat(frames[-1:], linger, axis=0)])
            active = [best]
            finished: list[_Hypothesis] = []
            while active and len(finished) < round(beam_size * _PATIENCE):
                yield
                candidates = self._step(frames, active, beam_size, booster)
                finished += [candidate for candidate in candidates if candidate.frame >= len(frames)]
                active = [candidate for candidate in candidates if candidate.frame < len(frames)]
            best = self._best(finished + active, booster)
        return _searched(best, state, begin, end, end if final_until is None else final_until)

    def _root(self, state: DecoderState, booster: Booster | None) -> _Reading:
        progress = state.search or SearchProgress(0, 0.0, 0.0, booster.start if booster else None)
        root = _Reading(None, state.last, progress.count, progress.boost, progress.phrases)
        (root.prediction,) = self._predictions_of([state.last], [state])
        return root

    def _step(
        self, frames: Floats, active: Sequence[_Hypothesis], beam_size: int, booster: Booster | None
    ) -> list[_Hypothesis]:
        """What the hypotheses may become by one token and duration: the ones that are finished, then the best others.

        What has become the same is one. There are up to beam size ** 2 * durations to choose from, so they are kept as
        plain numbers until then: Python's garbage collector would stop everybody to look through so many objects.
        """
        predictions = self._predictions([hypothesis.reading for hypothesis in active])
        logits = self._network.join(
            frames[[hypothesis.frame for hypothesis in active]],
            np.stack([prediction.output for prediction in predictions]),
        )
        chances = _log_softmax(logits[:, : self._blank + 1])
        worths = chances * np.float32(self.token_share)
        if booster is not None:
            for worth, hypothesis in zip(worths, active, strict=True):
                if hypothesis.reading.phrases is not None:
                    worth[: self._blank] += booster.table(hypothesis.reading.phrases)
        tokens = _greatest(worths, beam_size)
        moves = self._moves(logits[:, self._blank + 1 :], beam_size)
        chosen = tokens.tolist(), np.take_along_axis(chances, tokens, axis=-1).tolist()
        slots: dict[int, int] = {}
        readings: list[_Reading] = []
        reached: list[int] = []
        scores: list[float] = []
        origins: list[int] = []
        origin = -1
        for hypothesis, its_tokens, its_chances, its_moves in zip(active, *chosen, moves, strict=True):
            for token, chance in zip(its_tokens, its_chances, strict=True):
                reading = hypothesis.reading if token == self._blank else self._longer(hypothesis, token, booster)
                for frames_on, worth in its_moves or self._plain_move(token):
                    origin += 1
                    frame = hypothesis.frame + frames_on
                    if frames_on == 0 and hypothesis.repeats + 1 >= self._most_repeats:
                        frame += 1
                    score = hypothesis.score + chance * self.token_share + worth
                    # `readings` keeps each from being dropped, and its number from being used again.
                    slot = slots.setdefault(id(reading) << 32 | frame, len(scores))
                    if slot == len(scores):
                        readings.append(reading)
                        reached.append(frame)
                        scores.append(score)
                        origins.append(origin)
                        continue
                    likelier, other = scores[slot], score
                    if score > likelier:
                        likelier, other, origins[slot] = score, likelier, origin
                    scores[slot] = likelier + math.log1p(math.exp(other - likelier))
        done = [slot for slot, frame in enumerate(reached) if frame >= len(frames)]
        others = [slot for slot, frame in enumerate(reached) if frame < len(frames)]
        others.sort(key=lambda slot: scores[slot] + readings[slot].boost, reverse=True)
        kept: list[_Hypothesis] = []
        for slot in done + others[:beam_size]:
            which, move = divmod(origins[slot], len(moves[0]) or 1)
            row, nth = divmod(which, tokens.shape[1])
            hypothesis, token, chance = active[row], chosen[0][row][nth], chosen[1][row][nth]
            frames_on, _ = (moves[row] or self._plain_move(token))[move]
            trail = hypothesis.trail
            if token != self._blank:
                lasts = frames_on if self._durations else 1
                emission = Emission(token, hypothesis.frame, lasts, math.exp(chance))
                trail = _Trail(emission, scores[slot], trail)
            # A hypothesis that moved on, even because of too many tokens in one place, counts from zero again.
            repeats = 0 if reached[slot] > hypothesis.frame else hypothesis.repeats + 1
            kept.append(_Hypothesis(readings[slot], trail, reached[slot], repeats, scores[slot]))
        return kept

    def _plain_move(self, token: int) -> list[tuple[int, float]]:
        """Where there are no durations, the blank moves on by one frame and a token by none."""
        return [(int(token == self._blank), 0.0)]

    def _moves(self, logits: Floats, beam_size: int) -> list[list[tuple[int, float]]]:
        """For each hypothesis the likeliest durations and what they add to a score; none for a plain transducer."""
        if not self._durations:
            return [[] for _ in logits]
        chances = _log_softmax(logits)
        choices = _greatest(chances, beam_size)
        worths = np.take_along_axis(chances, choices, axis=-1).tolist()
        return [
            [(self._durations[choice], worth * _DURATION_REWARD) for choice, worth in zip(row, its_worths, strict=True)]
            for row, its_worths in zip(choices.tolist(), worths, strict=True)
        ]

    def _predictions(self, readings: Sequence[_Reading]) -> list[Prediction]:
        """What the prediction network says after each; those of which it has not been asked are asked at once."""
        new = [reading for reading in dict.fromkeys(readings) if reading.prediction is None]
        if new:
            # The first one was asked about before anything followed it.
            before = [reading.before.prediction for reading in new if reading.before and reading.before.prediction]
            predictions = self._predictions_of([reading.last for reading in new], before)
            for reading, prediction in zip(new, predictions, strict=True):
                reading.prediction = prediction
        return [reading.prediction for reading in readings if reading.prediction is not None]

    def _predictions_of(
        self, last: Sequence[int], states: Sequence[Prediction] | Sequence[DecoderState]
    ) -> list[Prediction]:
        batch = self._network.predict(
            np.array(last, dtype=np.int64),
            np.stack([state.hidden for state in states], axis=1),
            np.stack([state.cell for state in states], axis=1),
        )
        return [
            Prediction(batch.output[row], batch.hidden[:, row], batch.cell[:, row]) for row in range(len(batch.output))
        ]

    def _longer(self, hypothesis: _Hypothesis, token: int, booster: Booster | None) -> _Reading:
        before = hypothesis.reading
        if before.longer is None:
            before.longer = WeakValueDictionary()
        reading = before.longer.get(token)
        if reading is None:
            phrases, boost = before.phrases, before.boost
            if booster is not None and phrases is not None:
                phrases, more = booster.advance(phrases, token)
                boost += more
            reading = before.longer[token] = _Reading(before, token, before.count + 1, boost, phrases)
        return reading

    def _best(self, hypotheses: Sequence[_Hypothesis], booster: Booster | None) -> _Hypothesis:
        def boost(reading: _Reading) -> float:
            if booster is None or reading.phrases is None:
                return reading.boost
            return reading.boost + booster.settle(reading.phrases)

        longest = max(max(hypothesis.reading.count, 1) for hypothesis in hypotheses)

        def worth(hypothesis: _Hypothesis) -> float:
            length = max(hypothesis.reading.count, 1)
            score: float = hypothesis.score / length**_LENGTH_PENALTY
            # For a plain transducer upstream shares a boost among the tokens of its own reading.
            shared = longest if self._durations else length
            more: float = boost(hypothesis.reading) / shared**_LENGTH_PENALTY
            return score + more

        return max(hypotheses, key=worth)


def _searched(best: _Hypothesis, state: DecoderState, begin: int, end: int, final_until: int) -> Searched:
    emissions: list[Emission] = []
    origin = begin + state.skip
    trail, final, reading = best.trail, 0, best.reading
    last: _Trail | None = None  # of those that are final
    while trail is not None:
        one = trail.emission
        frame = one.frame + origin
        # The second: said when the last frame was looked at again.
        one = replace(one, frame=frame) if frame < end else replace(one, frame=end - 1, frames=0)
        emissions.append(one)
        if one.frame < final_until:
            final += 1
            last = last or _Trail(one, trail.score, None)
        elif reading.before is not None:
            reading = reading.before
        trail = trail.before
    return Searched(
        tuple(reversed(emissions)),
        final,
        _state_behind(reading, last, state, final_until=final_until, begin=begin),
    )


def _state_behind(
    reading: _Reading, last: _Trail | None, state: DecoderState, *, final_until: int, begin: int
) -> DecoderState:
    """The state at `final_until` after `reading`, which ends with the emission of `last`."""
    if last is None or reading.before is None or reading.before.prediction is None:
        # Nothing was said: only the frames that the last token covers have passed.
        skip = max(state.skip - (final_until - begin), 0)
        return replace(state, skip=skip, repeats=0)
    emission, network = last.emission, reading.before.prediction
    return DecoderState(
        # A blank's duration may reach beyond as well, but nothing is lost by looking there again.
        skip=max(emission.frame + emission.frames - final_until, 0),
        last=reading.last,
        repeats=0,
        hidden=network.hidden,
        cell=network.cell,
        search=SearchProgress(reading.count, last.score, reading.boost, reading.phrases),
    )


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _greatest(numbers: Floats, count: int) -> NDArray[np.intp]:
    """Where the `count` greatest numbers of each row are, in no certain order."""
    count = min(count, numbers.shape[-1])
    return np.argpartition(numbers, -count, axis=-1)[:, -count:]
