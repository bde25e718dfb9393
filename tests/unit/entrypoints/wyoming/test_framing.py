import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wyoming.event import Event, async_write_event

from parakeet_service.entrypoints.wyoming.errors import ClientGoneError, ProtocolError
from parakeet_service.entrypoints.wyoming.framing import DATA_BYTES, HEADER_BYTES, PAYLOAD_BYTES, EventReader
from tests.unit.entrypoints.wyoming.memory import in_memory


def line(**header: Any) -> bytes:
    return json.dumps(header).encode() + b"\n"


async def all_events(*pieces: bytes) -> list[Event]:
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    events: list[Event] = []

    async def read() -> None:
        try:
            while True:
                events.append(await reader.next())
        except ClientGoneError:
            return

    reading = asyncio.create_task(read())
    for piece in pieces:
        stream.feed_data(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    stream.feed_eof()
    await reading
    return events


async def written(*events: Event) -> bytes:
    writer, transport = in_memory()
    for event in events:
        await async_write_event(event, writer)
    writer.close()
    return bytes(transport.written)


_EVENTS = st.lists(
    st.builds(
        Event,
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(-9, 9), max_size=2),
        st.one_of(st.none(), st.binary(min_size=1, max_size=9)),
    ),
    max_size=4,
)


@given(_EVENTS, st.integers(1, 9))
def test_reads_what_the_official_package_writes_split_anywhere(events: list[Event], step: int) -> None:
    async def read() -> list[Event]:
        data = await written(*events)
        return await all_events(*(data[at : at + step] for at in range(0, len(data), step)))

    assert asyncio.run(read()) == events


async def test_data_may_stand_in_the_line_and_behind_it() -> None:
    more = b'{"b": 2, "c": 3}'
    (event,) = await all_events(line(type="x", data={"a": 1, "b": 1}, data_length=len(more)) + more)
    assert event.data == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"[" * 5000 + b"\n",
        b"\xff\n",
        b"x" * HEADER_BYTES,
        line(type=1),
        line(type="x", data=[]),
        line(type="x", data_length=-1),
        line(type="x", data_length=DATA_BYTES + 1),
        line(type="x", data_length=True),
        line(type="x", payload_length=PAYLOAD_BYTES + 1),
        line(type="x", payload_length=1.5),
        line(type="x", data_length=2) + b"[]",
        line(type="x", data_length=3) + b"{a}",
    ],
)
async def test_refuses_what_is_no_event_or_too_large(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        await all_events(data)


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    data = await written(Event("audio-chunk", {"rate": 1}, b"abc"))
    stream.feed_data(data[:-2])
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    stream.feed_data(data[-2:])

    assert (await reader.next()).payload == b"abc"


async def test_what_comes_while_waiting_for_the_end_is_kept() -> None:
    stream = asyncio.StreamReader()
    reader = EventReader(stream)
    stream.feed_data(await written(Event("ping")))
    waiting = asyncio.create_task(reader.wait_gone())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await reader.next()).type == "ping"

    stream.feed_eof()
    with pytest.raises(ClientGoneError):
        await reader.wait_gone()
