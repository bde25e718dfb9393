"""The files that ship with the package: the embedded model, the voice activity detector's model, and a recording."""

from pathlib import Path

_HERE = Path(__file__).parent

EMBEDDED_MODEL = _HERE / "parakeet-tdt-tiny"
"""A directory with `config.json` and `model.safetensors`."""
SILERO_VAD = _HERE / "silero-vad"
"""A directory with `encoder.onnx` and `recurrent.onnx`."""
DEMO_RECORDING = _HERE / "samples" / "demo.wav"
"""14.4 s of synthesised speech, 16 kHz, mono, 16 bit."""
