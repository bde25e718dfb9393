from pathlib import Path
from typing import Any

import mlx.core as mx
from parakeet_mlx.parakeet import BaseParakeet

def from_config(config: dict[str, Any]) -> BaseParakeet: ...
def from_pretrained(
    hf_id_or_path: str, *, dtype: mx.Dtype = ..., cache_dir: str | Path | None = None
) -> BaseParakeet: ...
