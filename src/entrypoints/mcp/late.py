"""A transcriber that is still to come."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.requests import Request

from .transcription import Reading, Transcriber, TranscriptOutput, Writing

_HANDSHAKE = frozenset({"initialize", "server/discover"})


class LateTranscriber:
    """Calls wait until it is there; `wanted` is set once a client has been greeted."""

    def __init__(self) -> None:
        """Begin without one."""
        self.wanted = asyncio.Event()
        self._coming: asyncio.Future[Transcriber] = asyncio.get_running_loop().create_future()

    def come(self, transcriber: Transcriber) -> None:
        """Here it is."""
        self._coming.set_result(transcriber)

    def fail(self, error: Exception) -> None:
        """It does not come."""
        self._coming.set_exception(error)
        # Perhaps nobody ever calls; that is no reason for the event loop to complain.
        self._coming.exception()

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        reading: Reading,
        writing: Writing,
        *,
        request: Request | None,
        on_progress: Callable[[float], None],
    ) -> TranscriptOutput:
        """See `Transcriber`; raises what kept it from coming."""
        # Whoever leaves must not stop it.
        transcriber = await asyncio.shield(self._coming)
        return await transcriber(source, reading, writing, request=request, on_progress=on_progress)

    async def status(self) -> str:
        """See `Transcriber`."""
        return await self._coming.result().status() if self._coming.done() else "The service is starting."

    async def watch(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Watch the client's messages: whatever follows the handshake was sent by one that has had our answer.

        To be among the server's `middleware`. What is begun then can no longer delay that answer.
        """
        if ctx.method not in _HANDSHAKE:
            self.wanted.set()
        return await call_next(ctx)
