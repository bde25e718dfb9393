"""A Ray node of the service: a cluster on this machine alone, kept from the network, or a part of one elsewhere."""

import asyncio
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from ...domain.errors import ModelLoadError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

Up = TypeVar("Up")

_START_S = 120.0
_STARTED = re.compile(r"Ray runtime started")
"""What `ray start` says of a node that has joined."""
_TEMPORARY = "/tmp" if os.name == "posix" else None  # noqa: S108 - a directory of our own in it, for its short name
_LEAST_STORE, _MOST_STORE = 128 << 20, 2 << 30
"""Bytes for batches that are too large to travel with their calls: on GPUs one may have 64 windows of 30 s, 123 MB."""


class LocalRay:
    """One Ray node in a session of its own: signals from the terminal or a service manager's first ones pass it by.

    It ends with this process, also if that is killed: see `node`.
    """

    def __init__(self) -> None:
        """Begin without a process."""
        self._keeper: subprocess.Popen[bytes] | None = None

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
        directory = _new_directory()
        # Ray opens its directory to everybody.
        place = directory / "r"
        address_file = place / "ray_current_cluster"
        address = await self._run(
            directory,
            *("--head", "--node-ip-address=127.0.0.1", "--port=0", f"--temp-dir={place}", f"--num-cpus={cores}"),
            *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"),
            is_up=lambda _: _read(address_file),
        )
        _log.info("ray_started", address=address)
        return address

    async def join(self, address: str) -> None:
        """Start a node without workers, through which this process speaks to a cluster elsewhere.

        Raises:
            ModelLoadError: See `start`.
        """
        cores = ("--num-cpus=0", "--num-gpus=0")
        await self._run(_new_directory(), f"--address={address}", *cores, is_up=_STARTED.search)
        _log.info("ray_joined", address=address)

    async def _run(self, directory: Path, *options: str, is_up: Callable[[str], Up | None]) -> Up:
        """Start the node, and wait until what it has written, or left in a file, shows that it is up."""
        output = directory / "output"
        with output.open("wb") as log:
            # Not asyncio's own: see ADR 0009.
            self._keeper = subprocess.Popen(  # noqa: ASYNC220, S603 - a millisecond; no shell
                [
                    *(sys.executable, "-P", "-m", f"{__package__}.node", str(directory), "start", "--block"),
                    *("--disable-usage-stats", f"--object-store-memory={_store_bytes()}", *options),
                ],
                # Nothing runs on it any more when it is ended.
                env=os.environ | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        said = ""
        try:
            async with asyncio.timeout(_START_S):
                while not (up := is_up(said)):
                    # It is deleted when the node ends.
                    said = _read(output) or said
                    if self._keeper.poll() is not None:
                        raise ModelLoadError(f"Ray did not start: {said[-500:]}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise ModelLoadError(f"Ray did not start within {_START_S:.0f} s: {_read(output)[-500:]}") from None
        return up

    async def aclose(self) -> None:
        """End it and everything that it started."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            await asyncio.to_thread(keeper.wait)


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


def _new_directory() -> Path:
    # Short: the paths of its sockets may have 107 characters.
    return Path(tempfile.mkdtemp(prefix="prk", dir=_TEMPORARY))


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
