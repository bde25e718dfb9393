"""The calls of one who asks, on their way to what answers them."""

import asyncio
import socket

import pytest
from msgspec import Raw, Struct
from msgspec.msgpack import encode

from parakeet_service.adapters.processes import messages
from parakeet_service.adapters.processes.child import Host, Peer, Reply
from parakeet_service.adapters.processes.messages import Call, Cancel


class Request(Struct):
    """One that stays until it is cancelled, or one that is answered."""

    stays: bool


def call(number: int, *, stays: bool = False) -> bytes:
    return bytes(messages.frame(Call(number, Raw(encode(Request(stays))))))


@pytest.mark.parametrize("turns", range(8))
async def test_calls_begin_in_their_order_whenever_one_is_cancelled(turns: int) -> None:
    begun: list[int] = []

    async def handle(number: int, request: Request, reply: Reply) -> None:
        begun.append(number)
        if request.stays:
            await asyncio.Event().wait()
        await reply(None)

    ours, theirs = socket.socketpair()
    with ours:
        _, writer = await asyncio.open_unix_connection(sock=theirs)
        # Fed here, so that what comes next comes in the very turn of the loop that the parameter tells.
        reader = asyncio.StreamReader()
        serving = asyncio.create_task(Peer(reader, writer).serve(Host(Request, None, lambda: handle)))
        reader.feed_data(call(1, stays=True))
        while not begun:
            await asyncio.sleep(0)
        reader.feed_data(bytes(messages.frame(Cancel(1))) + call(2))
        for _ in range(turns):
            await asyncio.sleep(0)
        reader.feed_data(call(3))
        while len(begun) < 3:
            await asyncio.sleep(0)
        assert begun == [1, 2, 3]
        reader.feed_eof()
        await serving
        await writer.wait_closed()
