"""How many cores this process may use."""

import os
from pathlib import Path

from threadpoolctl import ThreadpoolController

THREADS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables of the environment that say how many threads an OpenBLAS has."""
_NUMPYS = frozenset({"numpy", "numpy.libs"})
"""Directories in which numpy's wheels have their own libraries."""


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process is bound to, or fewer where its container has a quota.

    Args:
        quota: The control group's, version 2: microseconds of time in so many microseconds, or ``max``.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        time, period = quota.read_text(encoding="ascii").split()
    except OSError:  # no such control group, or one that this process may not look at
        return cores
    return cores if time == "max" else min(cores, max(1, int(time) // int(period)))


def one_thread_for_numpy() -> None:
    """Let numpy multiply matrices in the calling thread alone, unless the environment says how many.

    Its OpenBLAS takes all cores by default, and its threads wait for their next product without rest: features and
    detector, whose products are small, kept a second core busy for nothing. Another OpenBLAS, such as the one for
    MLX, keeps its threads.
    """
    if any(name in os.environ for name in THREADS):
        return
    for library in ThreadpoolController().lib_controllers:
        if not _NUMPYS.isdisjoint(Path(library.filepath).parts):
            library.set_num_threads(1)
