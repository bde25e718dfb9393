from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

def save_file(tensor_dict: Mapping[str, NDArray[Any]], filename: Path) -> None: ...
