# The part of ONNX Runtime that we use: it publishes no types.
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

def get_available_providers() -> list[str]: ...

class SessionOptions:
    intra_op_num_threads: int
    inter_op_num_threads: int
    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    def add_session_config_entry(self, key: str, value: str) -> None: ...

class RunOptions:
    def add_run_config_entry(self, key: str, value: str) -> None: ...

class InferenceSession:
    def __init__(
        self, path_or_bytes: Path | bytes, sess_options: SessionOptions | None = None, *, providers: Sequence[str]
    ) -> None: ...
    def get_providers(self) -> list[str]: ...
    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, NDArray[Any]],
        run_options: RunOptions | None = None,
    ) -> list[NDArray[np.float32]]: ...
