import asyncio

import pytest
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from parakeet_service.entrypoints.http.guards.websocket_gateway import UnreadError, WebSocketChannel


class _Wire:
    """What a server hands to an application; each message has gone once `gone` is set."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        return {"type": "websocket.connect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            await self.gone.wait()

    async def line(self, *, send_timeout_s: float) -> WebSocketChannel:
        scope: Scope = {"type": "websocket", "headers": [], "path": "/ws", "subprotocols": []}
        websocket = WebSocket(scope, self.receive, self.send)
        await websocket.accept()
        return WebSocketChannel(websocket, send_timeout_s)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("later", range(4))
async def test_whoever_is_cancelled_as_the_message_goes_is_cancelled(later: int) -> None:
    wire = _Wire()
    line = await wire.line(send_timeout_s=60)
    saying = asyncio.create_task(line.send({}))
    await _turns(5)

    wire.gone.set()
    await _turns(later)

    # It has said it by now, or it hears that it is not to go on.
    assert saying.cancel() == (not saying.done())
    await asyncio.wait((saying,))
    assert saying.cancelled() == bool(saying.cancelling())


@pytest.mark.leaping_clock
async def test_a_message_that_nobody_reads_is_given_up() -> None:
    line = await _Wire().line(send_timeout_s=30)

    with pytest.raises(UnreadError):
        await line.send({})
