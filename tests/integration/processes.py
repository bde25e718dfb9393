"""Runs the real command as a user would: in a process of its own, with nothing of our environment's settings."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from parakeet_service.config.settings import Settings

HANGS_S = 600
"""After so long nothing more will come, on the busiest machine."""
SAMPLE = Path(__file__).parents[2] / "src" / "assets" / "samples" / "demo.wav"


def clean_environment(**settings: str) -> dict[str, str]:
    ours = {name.upper() for name in Settings.model_fields}
    # Jobs would lie in the user's own data directory.
    return {name: value for name, value in os.environ.items() if name not in ours} | {"JOBS": "off"} | settings


def run(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; `cwd` should hold no `.env`."""
    command = (sys.executable, "-m", "parakeet_service", *arguments)
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )


class Server:
    """A server process, whose standard error is read as it comes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    def wait_for_line(self, begin: str, *, within_s: float = HANGS_S) -> str:
        """What follows `begin`, in a plain line or in the message of one of a JSON log."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self._reader.is_alive():
            for line in map(_message, tuple(self.lines)):
                if line.startswith(begin):
                    return line.removeprefix(begin).strip()
            time.sleep(0.05)
        raise AssertionError(f"no line {begin!r} in {within_s} s, but:\n" + "".join(self.lines))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and give the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=HANGS_S)
        self._reader.join(timeout=HANGS_S)
        return code


@contextmanager
def started(command: Sequence[str | Path], *, cwd: Path, **settings: str) -> Generator[Server]:
    """Start `command`, and make sure that it is gone at the end."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=clean_environment(**settings),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_until_ok(url: str, *, within_s: float = HANGS_S) -> httpx2.Response:
    """Ask until the answer is 200; what has not bound its port yet may refuse."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            answer = httpx2.get(url, trust_env=False)
        except httpx2.TransportError:
            answer = None
        if answer is not None and answer.is_success:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{url} said {answer and answer.text} for {within_s} s")
        time.sleep(0.1)


def _message(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return line
