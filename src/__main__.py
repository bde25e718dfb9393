"""The ``parakeet-service`` command, which is ``python -m parakeet_service`` as well."""

import atexit
import os
import sys
import threading

from .bootstrap.commands import run_cli


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    _leave(run_cli(sys.argv[1:]))


def _leave(code: int) -> None:
    """End the process, without Python's own end where a thread is left that cannot be stopped.

    One that loads a model may be inside C++ code. Before 3.14 Python ends such a thread by unwinding its stack, which
    C++ answers by aborting the process.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
