"""What the shell is told at the end."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a finished command tells the shell."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    UNREADABLE = 3
    INTERRUPTED = 130
