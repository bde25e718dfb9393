"""A connection without a socket."""

import asyncio
import json
from typing import Any

from wyoming.event import Event


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.protocol: asyncio.StreamReaderProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.protocol is not None
            self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Types and data of what was written; nothing of what the server writes has a payload."""
        found, rest = list[tuple[str, dict[str, Any]]](), bytes(self.written)
        while rest:
            line, _, rest = rest.partition(b"\n")
            header = json.loads(line)
            size = header.get("data_length", 0)
            found.append((header["type"], json.loads(rest[:size] or b"{}")))
            rest = rest[size:]
        return found


def in_memory(reader: asyncio.StreamReader | None = None) -> tuple[asyncio.StreamWriter, MemoryTransport]:
    loop = asyncio.get_running_loop()
    reader = reader or asyncio.StreamReader()
    transport, protocol = MemoryTransport(), asyncio.StreamReaderProtocol(reader)
    transport.protocol = protocol
    protocol.connection_made(transport)
    return asyncio.StreamWriter(transport, protocol, reader, loop), transport


def frame(event: Event) -> bytes:
    data, payload = json.dumps(event.data).encode(), event.payload or b""
    header = {"type": event.type, "data_length": len(data), "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + data + payload
