import wave
from importlib.resources import files

import numpy as np
import pytest

from parakeet_service.adapters.parakeet_mlx import blas
from parakeet_service.domain.audio import Samples

# Before any test imports MLX, which binds the BLAS.
blas.preload()


@pytest.fixture(scope="session")
def speech() -> Samples:
    """The bundled recording, 16 kHz."""
    with files("parakeet_service").joinpath("assets/samples/demo.wav").open("rb") as file, wave.open(file) as recording:
        assert recording.getframerate() == 16000
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
