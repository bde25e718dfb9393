"""Events as they come over a socket: a line of JSON, more JSON, and a payload.

The package's own reader takes events of any size and ends on bytes that are no event without saying so.

Source: https://github.com/OHF-Voice/wyoming, 1.10.2, MIT: the format, as its `event` module reads and writes it.
"""

import asyncio
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from wyoming.event import Event

from .errors import ClientGoneError, ProtocolError

HEADER_BYTES = 1 << 16
DATA_BYTES = 1 << 18
PAYLOAD_BYTES = 1 << 20
"""Half a minute of what Home Assistant sends in pieces of a hundredth of a second."""
_PIECE_BYTES = 1 << 16


class _Header(BaseModel):
    model_config = ConfigDict(strict=True)

    type: str
    data: dict[str, JsonValue] | None = None
    data_length: Annotated[int, Field(ge=0, le=DATA_BYTES)] | None = None
    payload_length: Annotated[int, Field(ge=0, le=PAYLOAD_BYTES)] | None = None


_DATA = TypeAdapter(dict[str, JsonValue])


class EventReader:
    """The events of one connection."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        """Read from `stream`, whose bytes nobody else takes."""
        self._stream = stream
        self._seen = bytearray()
        self._header: _Header | None = None

    async def next(self) -> Event:
        """The next event; may be cancelled, and loses none by that.

        Raises:
            ProtocolError: The bytes are no event, or one that is too large; what follows cannot be read either.
            ClientGoneError: No more will come.
        """
        while (event := self._take()) is None:
            await self._more()
        return event

    async def wait_gone(self) -> NoReturn:
        """Keep what comes for later, and notice when the client leaves, unless it has sent a lot before.

        Raises:
            ClientGoneError: It left.
        """
        while len(self._seen) < PAYLOAD_BYTES:
            await self._more()
        await asyncio.Event().wait()
        raise AssertionError  # pragma: no cover - nobody sets it

    async def _more(self) -> None:
        piece = await self._stream.read(_PIECE_BYTES)
        if not piece:
            raise ClientGoneError
        self._seen += piece

    def _take(self) -> Event | None:
        """Remove an event from the front of what was seen, if it is whole."""
        if self._header is None:
            self._header = self._take_header()
        header = self._header
        if header is None:
            return None
        data_bytes, payload_bytes = header.data_length or 0, header.payload_length or 0
        if len(self._seen) < data_bytes + payload_bytes:
            return None
        self._header = None
        more = self._cut(data_bytes)
        data = header.data or {}
        if more:
            try:
                data |= _DATA.validate_json(more)
            except ValidationError as error:
                raise _unreadable(error) from error
        return Event(header.type, data, self._cut(payload_bytes) or None)

    def _take_header(self) -> _Header | None:
        end = self._seen.find(b"\n", 0, HEADER_BYTES)
        if end < 0:
            if len(self._seen) >= HEADER_BYTES:
                raise ProtocolError(f"The first line of an event may have at most {HEADER_BYTES} bytes.")
            return None
        try:
            return _Header.model_validate_json(self._cut(end + 1))
        except ValidationError as error:
            raise _unreadable(error) from error

    def _cut(self, size: int) -> bytes:
        cut = bytes(self._seen[:size])
        del self._seen[:size]
        return cut


def _unreadable(error: ValidationError) -> ProtocolError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return ProtocolError(f"This is no event of the Wyoming protocol: {f'{place}: ' if place else ''}{first['msg']}.")
