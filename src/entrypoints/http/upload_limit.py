"""How much a request may send. Pure ASGI."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...domain.errors import UploadTooLargeError
from .problems import problem_response


class UploadLimit:
    """Stops a request body that is too large while it is being received, and sees to it that the client hears why."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int, linger_s: float = 5.0) -> None:
        """Guard `app`; a refused client may go on sending, to nobody, for `linger_s` before it is cut off."""
        self._app = app
        self._limit = limit_bytes
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on a body that is counted as it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            await self._refuse(scope, receive, send)
            return
        received = 0
        answered = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise UploadTooLargeError(limit_bytes=self._limit)
            return message

        async def unless_refused(message: Message) -> None:
            # A form parser may turn our error into an answer of its own: ours is the one that is sent.
            nonlocal answered
            if received <= self._limit or answered:
                answered = True
                await send(message)

        with suppress(UploadTooLargeError):
            await self._app(scope, counted, unless_refused)
        if received > self._limit and not answered:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem_response(UploadTooLargeError(limit_bytes=self._limit), scope)
        response.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        # Closing with bytes unread resets the connection, and a client that is still sending may lose the answer.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})
