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

    def runs_to_clear(self, frames: Frames) -> list[tuple[ClearedRun, RecurrentState]]:
        """The runs of these frames that are scored once more, and what the network remembers of each."""
        runs = self.conditioner.clear(frames)
        states = [self.cleared if run.continues else RecurrentState.initial() for run in runs]
        if states:
            self.cleared = states[-1]
        return list(zip(runs, states, strict=True))


def score_together(
    network: SileroNetwork, signals: Sequence[SignalState], frames: Sequence[Frames]
) -> list[Probabilities]:
    """The probability of speech in the next frames of each signal.

    It is that of the signal as it is, but where that hides speech.
    """
    probabilities = network.read(frames, [signal.network for signal in signals])
    _score_cleared(network, signals, frames, probabilities)
    return probabilities


def score_encoded(network: SileroNetwork, signal: SignalState, frames: Frames, encoded: Encoded) -> Probabilities:
    """The same for one signal, of whose frames the network's encoder has made `encoded`."""
    probabilities = network.hear(encoded, signal.network)
    _score_cleared(network, [signal], [frames], [probabilities])
    return probabilities


def score(network: SileroNetwork, signal: SignalState, samples: Samples) -> Probabilities:
    """The probability of speech in each frame that `samples` complete."""
    frames = signal.frames_with(samples)
    return score_encoded(network, signal, frames, network.encode(frames))


def _score_cleared(
    network: SileroNetwork,
    signals: Sequence[SignalState],
    frames: Sequence[Frames],
    probabilities: Sequence[Probabilities],
) -> None:
    """Score once more where something hides speech, and raise the `probabilities` of frames that have some."""
    again = [
        (given, run, state)
        for signal, some, given in zip(signals, frames, probabilities, strict=True)
        for run, state in signal.runs_to_clear(some)
    ]
    if again:
        cleared = network.read([run.windows for _, run, _ in again], [state for _, _, state in again])
        for (given, run, _), scores in zip(again, cleared, strict=True):
            part = given[run.begin : run.begin + len(scores)]
            np.maximum(part, scores, out=part, where=run.needed & (scores >= _LIKELY))
