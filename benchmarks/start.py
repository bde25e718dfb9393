"""What the first start with a model costs, which builds its graphs, and what later ones cost."""

import tempfile
import threading
import time
from pathlib import Path

import psutil

from .harness import Took, model_directory, running_service
from .report import Table

_LATER = 3
_LOOK_EVERY_S = 0.02


class _Watch:
    """The most memory that this process's children have taken together."""

    def __init__(self) -> None:
        self.most_mb = 0.0
        self._done = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._done.wait(_LOOK_EVERY_S):
            resident = 0.0
            for child in psutil.Process().children(recursive=True):
                try:
                    resident += child.memory_info().rss / 1e6
                except psutil.NoSuchProcess:
                    continue
            self.most_mb = max(self.most_mb, resident)


def run(model: str, settings: list[str]) -> None:
    """Print, for the first start and for later ones, the time until ``/readyz`` says so, and the memory.

    Args:
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        settings: ``NAME=value``, what differs from the defaults.
    """
    chosen = dict(setting.split("=", 1) for setting in settings)
    with tempfile.TemporaryDirectory() as scratch:
        found = model_directory(model, Path(scratch))
        options = {"MODEL_ID": found, "CACHE_DIR": str(Path(scratch) / "graphs"), **chosen}
        table = Table("start", "ready after", "CPU time", "most memory", "memory when ready", "disk")
        for number in range(1 + _LATER):
            took, most_mb, resident_mb = _start(options)
            built_mb = (
                sum(path.stat().st_size for path in Path(options["CACHE_DIR"]).rglob("*") if path.is_file()) / 1e6
            )
            table.row(
                "first" if number == 0 else f"later, {number}",
                f"{took.wall_s:.1f} s",
                f"{took.cpu_s:.1f} s",
                f"{most_mb:.0f} MB",
                f"{resident_mb:.0f} MB",
                f"{built_mb:.0f} MB",
            )


def _start(options: dict[str, str]) -> tuple[Took, float, float]:
    began = time.perf_counter()
    with _Watch() as watch, running_service(**options) as service:
        ready_s = time.perf_counter() - began
        return Took(ready_s, service.cpu_s()), watch.most_mb, service.resident_mb()
