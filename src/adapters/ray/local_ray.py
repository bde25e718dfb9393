"""A Ray node of the service: a cluster on this machine alone, kept from the network, or a part of one elsewhere."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
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
_OUTPUT = "output"
_OBJECT_STORE_BYTES = 128 << 20
"""Windows travel with their calls; only the recipe of the engine is kept in it."""


class LocalRay:
    """One Ray node in a session of its own: signals from the terminal or a service manager's first ones pass it by."""

    def __init__(self) -> None:
        """Begin without a process."""
        self._process: Process | None = None
        self._directory: Path | None = None

    async def start(self, token: str | None, *, cores: int) -> str:
        """Start a cluster on this machine alone, with `token` or a random one, and give its address.

        Raises:
            ModelLoadError: It does not start; the message ends with its own words.
        """
        os.environ.update(
            # Read by Ray when it is imported: with 0, what is at 127.0.0.1 stays there, and listens nowhere else.
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=token or secrets.token_hex(32),
        )
        directory = self._directory = _new_directory()
        process = await self._run(
            directory,
            *("--head", "--node-ip-address=127.0.0.1", "--port=0", f"--temp-dir={directory}", f"--num-cpus={cores}"),
            *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"),
        )
        address_file = directory / "ray_current_cluster"
        try:
            async with asyncio.timeout(_START_S):
                while not (address := _read(address_file)):
                    if process.returncode is not None:
                        raise ModelLoadError(f"Ray did not start: {self.last_words()}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ModelLoadError(f"Ray did not start within {_START_S:.0f} s: {self.last_words()}") from None
        _log.info("ray_started", address=address, pid=process.pid)
        return address

    async def join(self, address: str) -> None:
        """Start a node without workers, through which this process speaks to a cluster elsewhere; does not wait for it."""
        self._directory = _new_directory()
        process = await self._run(self._directory, f"--address={address}", "--num-cpus=0", "--num-gpus=0")
        _log.info("ray_joins", address=address, pid=process.pid)

    def last_words(self) -> str:
        """What the node wrote at last."""
        return "" if self._directory is None else _read(self._directory / _OUTPUT)[-500:]

    async def _run(self, directory: Path, *options: str) -> Process:
        with (directory / _OUTPUT).open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
                *(f"--object-store-memory={_OBJECT_STORE_BYTES}", *options),
                # It is told to end once nobody needs it.
                env=os.environ | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._process

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


def _new_directory() -> Path:
    # Short: the paths of its sockets may have 107 characters.
    return Path(tempfile.mkdtemp(prefix="prk", dir=_TEMPORARY))


def is_here(address: str) -> bool:
    """Whether a cluster's address is one of this machine, where then is a node already.

    Raises:
        ModelLoadError: Nobody knows the name.
    """
    host, _, port = address.rpartition(":")
    if not host:
        return True
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ModelLoadError(f"RAY_ADDRESS: {address} cannot be found: {error}") from error
    return any(_may_bind(family, place[0]) for family, _, _, _, place in found)


def _may_bind(family: socket.AddressFamily, host: object) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


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
