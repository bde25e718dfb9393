"""How many cores this process may use."""

import os
from pathlib import Path


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
