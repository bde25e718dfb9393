"""Greedy decoding in MLX, for all utterances of a batch at once: one step of all of them is one step of the device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...inference.decoding import Decoded, DecodeRange, DecoderState, Emission
from ..arrays import floats, integers
from .transducer import Transducer, durations_of, most_repeats_of

_STEPS_PER_LOOK = 16
"""Steps between two looks at whether anyone is still busy: each look waits for the device."""


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


class LockstepDecoder:
    """See `TransducerDecoder`; computes in the precision of the weights."""

    def __init__(self, model: Transducer) -> None:
        """Take the decoder's and joint network's weights from `model`."""
        self._joint = model.joint
        self._embed = model.decoder.prediction["embed"]
        self._layers = model.decoder.prediction["dec_rnn"].lstm
        self._blank = len(model.vocabulary)
        durations = durations_of(model)
        self._durations = mx.array(durations, dtype=mx.int32) if durations else None
        self._most_repeats = most_repeats_of(model)

    def decode(self, encoded: mx.array, spans: Sequence[DecodeRange]) -> list[Decoded]:
        """See `TransducerDecoder`."""
        projected = self._joint.enc(encoded)
        limit = mx.array([span.end for span in spans], dtype=mx.int32)
        batch = _stack(spans, projected.dtype)
        steps: list[_Step] = []
        while mx.any(batch.time < limit).item():
            for _ in range(_STEPS_PER_LOOK):
                batch, step = self._step(projected, limit, batch)
                steps.append(step)
        columns: list[NDArray[Any]] = [
            np.array(mx.stack([step[field] for step in steps])) if steps else np.empty((0, len(spans)))
            for field in range(len(_Step._fields))
        ]
        states = _unstack(batch, spans)
        return [Decoded(_emissions([column[:, row] for column in columns]), state) for row, state in enumerate(states)]

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
        taken = mx.ones_like(frames) if self._durations is None else frames
        return following, _Step(spoken, token, batch.time, taken, probability)

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


def _stack(spans: Sequence[DecodeRange], dtype: mx.Dtype) -> _Batch:
    states = [span.state for span in spans]
    return _Batch(
        time=mx.array([span.begin + span.state.skip for span in spans], dtype=mx.int32),
        last=mx.array([state.last for state in states], dtype=mx.int32),
        repeats=mx.array([state.repeats for state in states], dtype=mx.int32),
        hidden=mx.array(np.stack([state.hidden for state in states], axis=1)).astype(dtype),
        cell=mx.array(np.stack([state.cell for state in states], axis=1)).astype(dtype),
    )


def _unstack(batch: _Batch, spans: Sequence[DecodeRange]) -> list[DecoderState]:
    time, last, repeats = (integers(part).tolist() for part in batch[:3])
    hidden, cell = floats(batch.hidden), floats(batch.cell)
    return [
        DecoderState(max(time[row] - span.end, 0), last[row], repeats[row], hidden[:, row], cell[:, row])
        for row, span in enumerate(spans)
    ]


def _emissions(columns: Sequence[NDArray[Any]]) -> tuple[Emission, ...]:
    spoken, tokens, times, frames, probabilities = columns
    return tuple(
        Emission(int(tokens[i]), int(times[i]), int(frames[i]), float(probabilities[i])) for i in np.flatnonzero(spoken)
    )
