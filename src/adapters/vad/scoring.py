"""The probability of speech in the next samples of a signal, of which only a small state is remembered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...domain.audio import Samples
from ...domain.vad import Probabilities
from .conditioning import ClearedRun, Conditioner
from .silero_network import CONTEXT, FRAME, Encoded, Frames, RecurrentState, SileroNetwork

RATE_HZ = 16_000

_LIKELY = 0.3
"""Cleared silence has scores of its own, which are no better than those of silence; speech has more than these."""


@dataclass(slots=True, eq=False)
class SignalState:
    """What is remembered of one signal.

    Attributes:
        kept: The context of the next frame, and what has come of that frame.
        network: What the network remembers.
        cleared: What it remembers of the last run of frames that was scored once more.
        conditioner: Finds those frames.
    """

    kept: Samples
    network: RecurrentState
    cleared: RecurrentState
    conditioner: Conditioner

    @classmethod
    def initial(cls) -> "SignalState":
        """That of a signal that begins with silence."""
        return cls(
            np.zeros(CONTEXT, np.float32),
            RecurrentState.initial(),
            RecurrentState.initial(),
            Conditioner(frame_s=FRAME / RATE_HZ),
        )

    def frames_with(self, samples: Samples) -> Frames:
        """The frames that `samples` complete; the rest is kept for the next call."""
        heard = np.concatenate([self.kept, samples])
        whole = (len(heard) - CONTEXT) // FRAME
        self.kept = heard[whole * FRAME :].copy()
        # Each with its context. Numpy's own views of this kind take a good part of what the network does for a frame.
        size = heard.itemsize
        return np.ndarray((whole, CONTEXT + FRAME), heard.dtype, heard, strides=(FRAME * size, size))

    def block_of(self, frames: Frames) -> "Block":
        """These frames, and the runs of them that are scored once more, with what the network remembers of each."""
        runs = self.conditioner.clear(frames)
        states = [self.cleared if run.continues else RecurrentState.initial() for run in runs]
        if states:
            self.cleared = states[-1]
        return Block(frames, self.network, runs, states)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The next frames of a signal, as they are scored: blocks are made, and heard, in their order.

    Attributes:
        frames: As they are.
        state: What the network remembers of the signal; hearing moves it on.
        runs: Those that are scored once more.
        states: What it remembers of these, likewise.
    """

    frames: Frames
    state: RecurrentState
    runs: Sequence[ClearedRun]
    states: Sequence[RecurrentState]

    def encoded(self, network: SileroNetwork) -> "EncodedBlock":
        """What needs neither the blocks before nor their order."""
        frames, *runs = network.encode([self.frames, *(run.windows for run in self.runs)])
        return EncodedBlock(self, frames, runs)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBlock:
    """A block, and what the network's encoder makes of its frames and of its runs."""

    block: Block
    frames: Encoded
    runs: Sequence[Encoded]


def hear(network: SileroNetwork, blocks: Sequence[EncodedBlock]) -> list[Probabilities]:
    """The probability of speech in the next frames of each signal.

    It is that of the signal as it is, but where that hides speech.
    """
    probabilities = network.hear([one.frames for one in blocks], [one.block.state for one in blocks])
    cleared = iter(
        network.hear(
            [run for one in blocks for run in one.runs], [state for one in blocks for state in one.block.states]
        )
    )
    for given, one in zip(probabilities, blocks, strict=True):
        for run in one.block.runs:
            scores = next(cleared)
            part = given[run.begin : run.begin + len(scores)]
            np.maximum(part, scores, out=part, where=run.needed & (scores >= _LIKELY))
    return probabilities


def score_together(
    network: SileroNetwork, signals: Sequence[SignalState], frames: Sequence[Frames]
) -> list[Probabilities]:
    """The probability of speech in the next frames of each signal; see `hear`."""
    blocks = [signal.block_of(some) for signal, some in zip(signals, frames, strict=True)]
    rows = iter(network.encode([part for one in blocks for part in (one.frames, *(run.windows for run in one.runs))]))
    return hear(network, [EncodedBlock(one, next(rows), [next(rows) for _ in one.runs]) for one in blocks])


def score(network: SileroNetwork, signal: SignalState, samples: Samples) -> Probabilities:
    """The probability of speech in each frame that `samples` complete."""
    (probabilities,) = score_together(network, [signal], [signal.frames_with(samples)])
    return probabilities
