"""Keeps a Ray node on this machine running until standard input closes, as it does when the parent ends in any way.

Called with the node's directory, which is deleted in the end, and the arguments of `ray`.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.2
_END_S = 20.0


def main() -> None:
    """Run the node until standard input ends, or the node does; then end all that it has started."""
    # A service manager may send them to every process, while the service still needs its workers. Not ignored: what
    # is started here would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _heard)
    directory, *arguments = sys.argv[1:]
    command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
    node = subprocess.Popen(  # noqa: S603 - our caller's own words; no shell
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is one thread
    )
    while node.poll() is None and not select.select([sys.stdin], [], [], _LOOK_EVERY_S)[0]:
        pass
    node.terminate()
    try:
        code = node.wait(_END_S)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"Ray did not end within {_END_S:.0f} s, and was killed.\n")
        node.kill()
        code = 1
    # Whatever is left, such as workers whose node died.
    for pid in _others_of_this_session():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code)


def _end_with_parent() -> None:
    """Have the node told to end when this process is killed and cannot tell it; where the system offers that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _heard(_number: int, _frame: object) -> None:
    """Go on."""


def _others_of_this_session() -> list[int]:
    """Processes, where this system tells."""
    pids: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == os.getsid(0) and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
        except ProcessLookupError:
            continue
    return pids


if __name__ == "__main__":
    main()
