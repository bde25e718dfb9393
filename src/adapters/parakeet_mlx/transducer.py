"""Greedy decoding of transducers (TDT and RNNT) over a batch, with a state that can be carried on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
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


class _Batch(NamedTuple):
    """`DecoderState` for a batch: arrays of shape ``(batch,)``, and ``(layers, batch, width)`` for the LSTM."""

    time: mx.array
    last: mx.array
    repeats: mx.array
    hidden: mx.array
    cell: mx.array


class _Step(NamedTuple):
    """What a step gave each item of the batch, shape ``(batch,)`` each; not `spoken` is a blank, or nothing."""

    spoken: mx.array
    token: mx.array
    time: mx.array
    frames: mx.array
    probability: mx.array


class GreedyDecoder:
    """Takes the likeliest token and duration at each step, for all utterances of a batch at once.

    From the same features it gives the tokens and times of parakeet-mlx's greedy decoder, which waits for the
    device several times a token and takes one utterance after the other. A plain transducer is the special
    case in which the blank lasts one frame and every token none.
    """

    def __init__(self, model: Transducer) -> None:
        """Take the decoder's and joint network's weights from `model`."""
        self._joint = model.joint
        self._embed = model.decoder.prediction["embed"]
        self._layers = model.decoder.prediction["dec_rnn"].lstm
        self._blank = len(model.vocabulary)
        self._durations = mx.array(model.durations, dtype=mx.int32) if isinstance(model, ParakeetTDT) else None
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
        if not any(lengths):
            return [([], state) for state in states]
        projected = self._joint.enc(encoded)
        limit = mx.array(list(lengths), dtype=mx.int32)
        batch = self._stack(states, projected.dtype)
        steps: list[_Step] = []
        while True:
            for _ in range(_STEPS_PER_LOOK):
                batch, step = self._step(projected, limit, batch)
                steps.append(step)
            if not mx.any(batch.time < limit).item():
                break
        columns: list[NDArray[Any]] = [
            np.array(mx.stack([step[field] for step in steps])) for field in range(len(_Step._fields))
        ]
        return [
            (_emissions([column[:, row] for column in columns]), _state(batch, row, length))
            for row, length in enumerate(lengths)
        ]

    def _step(self, projected: mx.array, limit: mx.array, batch: _Batch) -> tuple[_Batch, _Step]:
        busy = batch.time < limit
        frame = mx.minimum(batch.time, projected.shape[1] - 1)
        encoded = mx.take_along_axis(projected, frame[:, None, None], axis=1)[:, 0]
        output, hidden, cell = self._predict(batch)
        logits = encoded + self._joint.pred(output)
        for layer in self._joint.joint_net:
            logits = layer(logits)
        scores = logits[:, : self._blank + 1].astype(mx.float32)
        token = mx.argmax(scores, axis=-1).astype(mx.int32)
        probability = mx.exp(mx.max(scores, axis=-1) - mx.logsumexp(scores, axis=-1))
        spoken = busy & (token != self._blank)
        if self._durations is None:
            frames = mx.where(token == self._blank, 1, 0)
        else:
            frames = self._durations[mx.argmax(logits[:, self._blank + 1 :], axis=-1)]

        repeats = mx.where(frames == 0, batch.repeats + 1, 0)
        stuck = repeats >= self._most_repeats
        following = _Batch(
            time=mx.where(busy, batch.time + frames + stuck.astype(mx.int32), batch.time),
            last=mx.where(spoken, token, batch.last),
            repeats=mx.where(busy, mx.where(stuck, 0, repeats), batch.repeats),
            hidden=mx.where(spoken[None, :, None], hidden, batch.hidden),
            cell=mx.where(spoken[None, :, None], cell, batch.cell),
        )
        return following, _Step(spoken, token, batch.time, frames, probability)

    def _predict(self, batch: _Batch) -> tuple[mx.array, mx.array, mx.array]:
        """One step of the prediction network: its output, shape ``(batch, width)``, and the new LSTM state."""
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        known = (batch.last != self._blank)[:, None]
        output = mx.where(known, self._embed(mx.where(known[:, 0], batch.last, 0)), 0)
        hiddens: list[mx.array] = []
        cells: list[mx.array] = []
        for index, layer in enumerate(self._layers):
            gates = output @ layer.Wx.T + batch.hidden[index] @ layer.Wh.T + layer.bias
            i, f, g, o = mx.split(gates, 4, axis=-1)
            cell = mx.sigmoid(f) * batch.cell[index] + mx.sigmoid(i) * mx.tanh(g)
            output = mx.sigmoid(o) * mx.tanh(cell)
            hiddens.append(output)
            cells.append(cell)
        return output, mx.stack(hiddens), mx.stack(cells)

    def _stack(self, states: Sequence[DecoderState], dtype: mx.Dtype) -> _Batch:
        zeros = mx.zeros((len(self._layers), self._layers[0].Wh.shape[-1]), dtype=dtype)
        return _Batch(
            time=mx.array([state.skip for state in states], dtype=mx.int32),
            last=mx.array([state.last for state in states], dtype=mx.int32),
            repeats=mx.array([state.repeats for state in states], dtype=mx.int32),
            hidden=mx.stack([zeros if state.hidden is None else state.hidden for state in states], axis=1),
            cell=mx.stack([zeros if state.cell is None else state.cell for state in states], axis=1),
        )


def _state(batch: _Batch, row: int, length: int) -> DecoderState:
    return DecoderState(
        skip=max(_number(batch.time[row]) - length, 0),
        last=_number(batch.last[row]),
        repeats=_number(batch.repeats[row]),
        hidden=batch.hidden[:, row],
        cell=batch.cell[:, row],
    )


def _number(value: mx.array) -> int:
    return cast("int", value.item())


def _emissions(columns: Sequence[NDArray[Any]]) -> list[Emission]:
    spoken, tokens, times, frames, probabilities = columns
    return [
        Emission(int(tokens[i]), int(times[i]), int(frames[i]), float(probabilities[i])) for i in np.flatnonzero(spoken)
    ]
