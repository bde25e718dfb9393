# The part of ONNX Runtime that we use: it publishes no types.
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

class SessionOptions:
    intra_op_num_threads: int
    inter_op_num_threads: int
    enable_cpu_mem_arena: bool

class InferenceSession:
    def __init__(self, path_or_bytes: Path, sess_options: SessionOptions, *, providers: Sequence[str]) -> None: ...
    def run(self, output_names: None, input_feed: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]: ...
