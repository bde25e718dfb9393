"""Greedy decoding of transducers on the CPU, all items of a batch step by step together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.decoding import Decoded, DecodeRange, DecoderState, Emission
from .architecture import TransducerArgs
from .networks import TransducerNetworks

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class GreedyDecoder:
    """Takes the likeliest token and duration at each step.

    A plain transducer is the special case in which the blank moves on by one frame and a token by none.
    """

    def __init__(self, networks: TransducerNetworks, args: TransducerArgs, blank: int) -> None:
        """Decode with these networks."""
        self._networks = networks
        self._args = args
        self._blank = blank
        self._durations = np.array(args.durations, np.int64)

    @property
    def start(self) -> DecoderState:
        """The state before the first frame."""
        zeros = np.zeros((self._args.layers, self._args.width), np.float32)
        return DecoderState(skip=0, last=self._blank, repeats=0, hidden=zeros, cell=zeros)

    def decode(self, encoded: Floats, ranges: Sequence[DecodeRange]) -> list[Decoded]:
        """Decode a batch.

        Args:
            encoded: What the encoder gave, shape ``(batch, frames, joint width)``.
            ranges: For each item, which frames to decode and from where.
        """
        batch = _Batch(ranges)
        predicted = np.empty((len(ranges), self._args.joint_width), np.float32)
        while len(rows := np.flatnonzero(batch.time < batch.end)):
            stale = rows[batch.stale[rows]]
            if len(stale):
                predicted[stale], batch.next_hidden[:, stale], batch.next_cell[:, stale] = self._networks.predict(
                    batch.last[stale], batch.hidden[:, stale], batch.cell[:, stale]
                )
                batch.stale[stale] = False
            logits = self._networks.join(encoded[rows, batch.time[rows]], predicted[rows])
            self._step(batch, rows, logits)
        return [Decoded(tuple(emissions), batch.state(row)) for row, emissions in enumerate(batch.emissions)]

    def _step(self, batch: "_Batch", rows: Integers, logits: Floats) -> None:
        """Move each of the rows on by what its logits say."""
        scores = logits[:, : self._blank + 1]
        tokens = scores.argmax(axis=1)
        is_token = tokens != self._blank
        if len(self._durations):
            moves = self._durations[logits[:, self._blank + 1 :].argmax(axis=1)]
        else:
            moves = (~is_token).astype(np.int64)
        emitted = np.flatnonzero(is_token)
        if len(emitted):
            lasts = moves[emitted] if len(self._durations) else np.ones(len(emitted), np.int64)
            batch.emit(rows[emitted], tokens[emitted], lasts, _probabilities(scores[emitted], tokens[emitted]))
        repeats = np.where(moves == 0, batch.repeats[rows] + 1, 0)
        stuck = repeats >= self._args.max_symbols
        batch.repeats[rows] = np.where(stuck, 0, repeats)
        batch.time[rows] += moves + stuck


class _Batch:
    """Where each item of a batch stands."""

    def __init__(self, ranges: Sequence[DecodeRange]) -> None:
        states = [one.state for one in ranges]
        self.time = np.array([one.begin + one.state.skip for one in ranges], np.int64)
        self.end = np.array([one.end for one in ranges], np.int64)
        self.last = np.array([state.last for state in states], np.int64)
        self.repeats = np.array([state.repeats for state in states], np.int64)
        # The state before the last token, and the one behind it; of stale rows the latter is still to be computed.
        self.hidden = np.stack([state.hidden for state in states], axis=1)
        self.cell = np.stack([state.cell for state in states], axis=1)
        self.next_hidden, self.next_cell = np.empty_like(self.hidden), np.empty_like(self.cell)
        self.stale = np.ones(len(ranges), np.bool_)
        self.emissions: list[list[Emission]] = [[] for _ in ranges]

    def emit(self, rows: Integers, tokens: Integers, lasts: Integers, probabilities: Floats) -> None:
        places: list[int] = self.time[rows].tolist()
        lists = [self.emissions[int(row)] for row in rows]
        for emissions, *emission in zip(
            lists, tokens.tolist(), places, lasts.tolist(), probabilities.tolist(), strict=True
        ):
            emissions.append(Emission(*emission))
        self.last[rows] = tokens
        self.hidden[:, rows], self.cell[:, rows] = self.next_hidden[:, rows], self.next_cell[:, rows]
        self.stale[rows] = True

    def state(self, row: int) -> DecoderState:
        return DecoderState(
            skip=max(int(self.time[row] - self.end[row]), 0),
            last=int(self.last[row]),
            repeats=int(self.repeats[row]),
            hidden=self.hidden[:, row].copy(),
            cell=self.cell[:, row].copy(),
        )


def _probabilities(scores: Floats, tokens: Integers) -> Floats:
    best = np.take_along_axis(scores, tokens[:, None], axis=1)
    probabilities: Floats = 1 / np.exp(scores - best).sum(axis=1)
    return probabilities
