"""Greedy decoding of transducers (TDT and RNNT) over a batch, with a state that can be carried on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import mlx.core as mx
import numpy as np
from parakeet_mlx import ParakeetRNNT, ParakeetTDT

Transducer: TypeAlias = ParakeetTDT | ParakeetRNNT

_STEPS_PER_LOOK = 16
"""Steps between two looks at whether anyone is still busy: each look waits for the device."""


@dataclass(frozen=True, slots=True)
class Emission:
    """A token as it left the joint network.

    Attributes:
        token: Index in the vocabulary.
        frame: Encoder frame at which it was emitted, counted from the first frame given.
        frames: How many frames it takes; 0 is possible.
        probability: That the model gave it.
    """

    token: int
    frame: int
    frames: int
    probability: float


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Where one utterance's decoding stands between two stretches of frames.

    Attributes:
        skip: Frames of the next stretch that the last token's duration already covers.
        last: Last token; the blank at the beginning.
        repeats: Tokens emitted so far without moving on.
        hidden: LSTM output of every layer, shape ``(layers, width)``; ``None`` at the beginning.
        cell: LSTM cell, likewise.
    """

    skip: int
    last: int
    repeats: int
    hidden: mx.array | None
    cell: mx.array | None


class GreedyDecoder:
    """Takes the likeliest token and duration at each step, for all utterances of a batch at once.

    From the same features it gives the tokens and times of parakeet-mlx's greedy decoder, which waits for the
    device several times a token and takes one utterance after the other. A plain transducer is the special
    case in which the blank lasts one frame and every token none.
    """

    def __init__(self, model: Transducer) -> None:
        """Take the decoder's and joint network's weights from `model`."""
        self._model = model
        self._blank = len(model.vocabulary)
        durations = model.durations if isinstance(model, ParakeetTDT) else None
        self._durations = None if durations is None else mx.array(durations, dtype=mx.int32)
        # Upstream loops for ever on a checkpoint without a limit whose duration head says 0 again and again.
        self._most_repeats = model.max_symbols or 10

    @property
    def start(self) -> DecoderState:
        """The state before the first frame."""
        return DecoderState(skip=0, last=self._blank, repeats=0, hidden=None, cell=None)

    def decode(
        self, encoded: mx.array, lengths: Sequence[int], states: Sequence[DecoderState]
    ) -> list[tuple[list[Emission], DecoderState]]:
        """Decode a batch.

        Args:
            encoded: Encoder output, shape ``(batch, frames, width)``.
            lengths: How many frames of each item count.
            states: Where each item's decoding stands.

        Returns:
            For each item its emissions in order, and the state from which to go on.
        """
        projected = self._model.joint.enc(encoded)
        limit = mx.array(list(lengths), dtype=mx.int32)
        state = self._stack(states, projected.dtype)
        emitted: list[tuple[mx.array, mx.array, mx.array, mx.array, mx.array]] = []
        while True:
            for _ in range(_STEPS_PER_LOOK):
                state, emission = self._step(projected, limit, state)
                emitted.append(emission)
            busy = mx.any(state[0] < limit)
            mx.eval(busy, state, emitted[-_STEPS_PER_LOOK:])
            if not busy.item():
                break
        columns = [np.array(mx.stack(column)) for column in zip(*emitted, strict=True)]
        return [(self._emissions(columns, row), self._unstack(state, row, length)) for row, length in enumerate(lengths)]

    def _step(
        self, projected: mx.array, limit: mx.array, state: tuple[mx.array, ...]
    ) -> tuple[tuple[mx.array, ...], tuple[mx.array, mx.array, mx.array, mx.array, mx.array]]:
        time, last, repeats, hidden, cell = state
        busy = time < limit
        frame = mx.minimum(time, projected.shape[1] - 1)
        encoded = mx.take_along_axis(projected, frame[:, None, None], axis=1)[:, 0]
        output, next_hidden, next_cell = self._predict(last, hidden, cell)
        logits = encoded + self._model.joint.pred(output)
        for layer in self._model.joint.joint_net:
            logits = layer(logits)
        scores = logits[:, : self._blank + 1].astype(mx.float32)
        token = mx.argmax(scores, axis=-1).astype(mx.int32)
        best = mx.max(scores, axis=-1)
        probability = mx.exp(best - mx.logsumexp(scores, axis=-1))
        spoken = token != self._blank
        if self._durations is None:
            frames = mx.where(spoken, 0, 1)
        else:
            frames = self._durations[mx.argmax(logits[:, self._blank + 1 :], axis=-1)]

        repeated = mx.where(frames == 0, repeats + 1, 0)
        stuck = repeated >= self._most_repeats
        moved = time + frames + stuck.astype(mx.int32)
        accepted = spoken & busy
        following = (
            mx.where(busy, moved, time),
            mx.where(accepted, token, last),
            mx.where(busy, mx.where(stuck, 0, repeated), repeats),
            mx.where(accepted[None, :, None], next_hidden, hidden),
            mx.where(accepted[None, :, None], next_cell, cell),
        )
        return following, (accepted, token, time, frames, probability)

    def _predict(self, last: mx.array, hidden: mx.array, cell: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """One step of the prediction network: its output, shape ``(batch, width)``, and the new LSTM state."""
        network = self._model.decoder.prediction
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        known = (last != self._blank)[:, None]
        outputs = mx.where(known, network["embed"](mx.minimum(last, network["embed"].weight.shape[0] - 1)), 0)
        hiddens: list[mx.array] = []
        cells: list[mx.array] = []
        for index, layer in enumerate(network["dec_rnn"].lstm):
            gates = outputs @ layer.Wx.T + hidden[index] @ layer.Wh.T
            if "bias" in layer:
                gates = gates + layer.bias
            i, f, g, o = mx.split(gates, 4, axis=-1)
            carried = mx.sigmoid(f) * cell[index] + mx.sigmoid(i) * mx.tanh(g)
            outputs = mx.sigmoid(o) * mx.tanh(carried)
            hiddens.append(outputs)
            cells.append(carried)
        return outputs, mx.stack(hiddens), mx.stack(cells)

    def _stack(self, states: Sequence[DecoderState], dtype: mx.Dtype) -> tuple[mx.array, ...]:
        layers = self._model.decoder.prediction["dec_rnn"].lstm
        zeros = mx.zeros((len(layers), layers[0].Wh.shape[-1]), dtype=dtype)
        return (
            mx.array([state.skip for state in states], dtype=mx.int32),
            mx.array([state.last for state in states], dtype=mx.int32),
            mx.array([state.repeats for state in states], dtype=mx.int32),
            mx.stack([zeros if state.hidden is None else state.hidden for state in states], axis=1),
            mx.stack([zeros if state.cell is None else state.cell for state in states], axis=1),
        )

    def _unstack(self, state: tuple[mx.array, ...], row: int, length: int) -> DecoderState:
        time, last, repeats, hidden, cell = state
        return DecoderState(
            skip=int(time[row].item()) - length,
            last=int(last[row].item()),
            repeats=int(repeats[row].item()),
            hidden=hidden[:, row],
            cell=cell[:, row],
        )

    @staticmethod
    def _emissions(columns: Sequence[np.ndarray], row: int) -> list[Emission]:
        accepted, tokens, times, frames, probabilities = (column[:, row] for column in columns)
        return [
            Emission(int(tokens[i]), int(times[i]), int(frames[i]), float(probabilities[i]))
            for i in np.flatnonzero(accepted)
        ]
