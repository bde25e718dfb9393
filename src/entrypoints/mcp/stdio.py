"""Standard input and output as a transport that can be left at any time."""

import asyncio
import os
import threading
from contextlib import suppress
from typing import Any

from mcp.server.mcpserver import MCPServer

_READ_BYTES = 1 << 16


async def run_stdio(server: MCPServer[Any]) -> None:
    """Serve the client on the standard streams until it closes its end; logs belong on standard error.

    When cancelled, the client's input ends.
    """
    feed = _Feed()
    running = asyncio.create_task(server.run_stdio_async())
    try:
        await asyncio.shield(running)
    finally:
        feed.close()
        await asyncio.wait((running,))


class _Feed:
    """A pipe in the place of standard input, filled from it by a thread that does not keep the process alive.

    The package reads in threads that it waits for: without a pipe that we can close, it could not be left before the
    client says something.
    """

    def __init__(self) -> None:
        self._input = os.dup(0)
        read_end, write_end = os.pipe()
        os.dup2(read_end, 0)
        os.close(read_end)
        self._output = os.fdopen(write_end, "wb", buffering=0)
        threading.Thread(target=self._copy, name="mcp-stdin", daemon=True).start()

    def _copy(self) -> None:
        # Not through `sys.stdin`: a thread that waits in it would hold its lock when Python ends.
        while data := os.read(self._input, _READ_BYTES):
            try:
                while data:
                    data = data[self._output.write(data) :]
            except (OSError, ValueError):
                return  # It was closed.
        self.close()

    def close(self) -> None:
        """End the input."""
        with suppress(OSError):
            self._output.close()
