"""Ray on this machine alone: started, kept from the network, and ended again."""

import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import Process
from pathlib import Path

import structlog

from ...domain.errors import ModelLoadError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_START_S = 120.0
_END_S = 20.0
_TEMPORARY = "/tmp" if os.name == "posix" else None  # noqa: S108 - a directory of our own in it, for its short name
_OBJECT_STORE_BYTES = 128 << 20
"""Windows travel with their calls; only the recipe of the engine is kept in it."""


class LocalRay:
    """One Ray node in a session of its own: signals from the terminal or a service manager's first ones pass it by."""

    def __init__(self, token: str | None, *, cores: int) -> None:
        """Use `token`, or a random one."""
        self._token = token or secrets.token_hex(32)
        self._cores = cores
        self._process: Process | None = None
        self._directory: Path | None = None

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
        self._directory = Path(tempfile.mkdtemp(prefix="prk", dir=_TEMPORARY))
        output = self._directory / "output"
        with output.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--node-ip-address=127.0.0.1", "--port=0", f"--temp-dir={self._directory}"),
                *(f"--num-cpus={self._cores}", f"--object-store-memory={_OBJECT_STORE_BYTES}"),
                *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor", "--disable-usage-stats"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        address_file = self._directory / "ray_current_cluster"
        try:
            async with asyncio.timeout(_START_S):
                while not (address := _read(address_file)):
                    if self._process.returncode is not None:
                        raise ModelLoadError(f"Ray did not start: {_read(output)[-500:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ModelLoadError(f"Ray did not start within {_START_S:.0f} s: {_read(output)[-500:]}") from None
        _log.info("ray_started", address=address, pid=self._process.pid)
        return address

    async def aclose(self) -> None:
        """End it and everything that it started."""
        if self._process is not None:
            session = self._process.pid
            if self._process.returncode is None:
                self._process.terminate()
                try:
                    await asyncio.wait_for(self._process.wait(), _END_S)
                except TimeoutError:
                    _log.warning("ray_killed", after_s=_END_S)
            # Whatever is left, such as workers whose node died.
            for pid in _pids_of(session):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            await self._process.wait()
            self._process = None
        if self._directory is not None:
            await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _pids_of(session: int) -> list[int]:
    """The processes of a session, where this system tells."""
    pids: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == session:
                pids.append(int(entry.name))
        except ProcessLookupError:
            continue
    return pids
