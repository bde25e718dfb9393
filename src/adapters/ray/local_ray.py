"""Ray on this machine alone: started, kept from the network, and ended again."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import structlog

from ...domain.errors import ModelLoadError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_START_S = 120.0
_TEMPORARY = "/tmp" if os.name == "posix" else None  # noqa: S108 - a directory of our own in it, for its short name
_LEAST_STORE, _MOST_STORE = 128 << 20, 2 << 30
"""Bytes for batches that are too large to travel with their calls: on GPUs one may have 64 windows of 30 s, 123 MB."""


class LocalRay:
    """One Ray node in a session of its own: signals from the terminal or a service manager's first ones pass it by.

    It ends with this process, also if that is killed: see `node`.
    """

    def __init__(self, token: str | None, *, cores: int) -> None:
        """Use `token`, or a random one."""
        self._token = token or secrets.token_hex(32)
        self._cores = cores
        self._keeper: subprocess.Popen[bytes] | None = None

    async def start(self) -> str:
        """Start it, and give its address.

        Raises:
            ModelLoadError: It does not start; the message ends with its own words.
        """
        os.environ.update(
            # Read by Ray when it is imported: with 0, what is at 127.0.0.1 stays there, and listens nowhere else.
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=self._token,
        )
        # Short: the paths of its sockets may have 107 characters.
        directory = Path(tempfile.mkdtemp(prefix="prk", dir=_TEMPORARY))
        output = directory / "output"
        with output.open("wb") as log:
            # Not asyncio's own: see ADR 0009.
            self._keeper = subprocess.Popen(  # noqa: ASYNC220, S603 - a millisecond; no shell
                [
                    *(sys.executable, "-P", "-m", f"{__package__}.node", str(directory), "start", "--head", "--block"),
                    *("--node-ip-address=127.0.0.1", "--port=0", f"--temp-dir={directory}"),
                    *(f"--num-cpus={self._cores}", f"--object-store-memory={_store_bytes()}"),
                    *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"),
                    "--disable-usage-stats",
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        address_file, said = directory / "ray_current_cluster", ""
        try:
            async with asyncio.timeout(_START_S):
                while not (address := _read(address_file)):
                    # It is deleted when the node ends.
                    said = _read(output) or said
                    if self._keeper.poll() is not None:
                        raise ModelLoadError(f"Ray did not start: {said[-500:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ModelLoadError(f"Ray did not start within {_START_S:.0f} s: {_read(output)[-500:]}") from None
        _log.info("ray_started", address=address, pid=self._keeper.pid)
        return address

    async def aclose(self) -> None:
        """End it and everything that it started."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            await asyncio.to_thread(keeper.wait)


def _store_bytes() -> int:
    """What Ray may take of the memory that processes share; it is taken once it is needed."""
    try:
        free = shutil.disk_usage("/dev/shm").free  # noqa: S108 - only looked at
    except FileNotFoundError:
        # macOS: Ray uses files there.
        return _LEAST_STORE
    return min(max(free // 2, _LEAST_STORE), _MOST_STORE)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
