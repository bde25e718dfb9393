"""Audio inside the service: mono float32 samples, full scale is [-1, 1]."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

type Samples = NDArray[np.float32]
"""Mono samples, shape ``(n,)``, float32, full scale is [-1, 1]."""
