"""One of several processes whose speakers load a service's ``/ws``, so that the clients do not limit what is measured.

Run as ``python -m benchmarks.live_load URL DIRECTORY SECONDS ALL FIRST STEP PAUSES CONFIG``: it has the speakers FIRST,
FIRST + STEP and so on, of ALL. Says ``ready``, begins once a line comes, and prints a `Heard` as JSON.

Frames are made once, before the beginning, with a mask of zeros, which leaves them as they are: a WebSocket library would
take more time for each than all else here.
"""

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from .conversation import conversation
from .speech import RATE_HZ, clip, joined, recordings

FRAME_S = 0.1
_FRAME = int(FRAME_S * RATE_HZ)
_PING_EVERY = 20
"""Frames between two pings: their answers tell how late the service takes in what was sent."""
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_BEGIN_WITHIN_S = 2.0
"""So that not all speakers' frames fall together."""
_SHORT, _MEDIUM = 126, 1 << 16


@dataclass(slots=True)
class Heard:
    """What the speakers of one process saw; seconds.

    Attributes:
        lag_s: For each partial, the audio that the service had and had not read, and the time that the last ping took.
        final_s: For each utterance that a pause ended, from the end of its speech, as the service has it, to its final.
        late_s: By how much each frame was sent later than it was spoken: that is this side's fault.
        cpu_s: Processor time of this process.
        errors: Sessions that did not end as they should, and why.
    """

    lag_s: list[float] = field(default_factory=list[float])
    final_s: list[float] = field(default_factory=list[float])
    late_s: list[float] = field(default_factory=list[float])
    cpu_s: float = 0.0
    errors: list[str] = field(default_factory=list[str])


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message of a client, masked with zeros."""
    length = len(payload)
    if length < _SHORT:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < _MEDIUM:
        head = bytes((0x80 | opcode, 0x80 | _SHORT)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | (_SHORT + 1))) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


class _Speaker:
    """One session."""

    def __init__(self, frames: Sequence[bytes], config: str, heard: Heard) -> None:
        self._frames = frames
        self._config = config
        self._heard = heard
        self._began = 0.0
        self._intake_s = 0.0
        self._stopped_s: float | None = None
        self._closing = False

    async def converse(self, url: str) -> None:
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        if b" 101 " not in status:
            self._heard.errors.append(status.decode())
            return
        if self._config:
            writer.write(frame(_TEXT, self._config.encode()))
        speaking = asyncio.create_task(self._speak(writer))
        try:
            await self._listen(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._heard.errors.append(repr(error))
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
            writer.close()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        self._began = time.monotonic()
        for number, data in enumerate(self._frames, 1):
            due = self._began + number * FRAME_S
            await asyncio.sleep(max(due - time.monotonic(), 0))
            now = time.monotonic()
            self._heard.late_s.append(now - due)
            # What the service does not take waits here, and the ping with it: it counts as lag.
            writer.write(data if number % _PING_EVERY else data + frame(_PING, repr(now).encode()))
        self._closing = True
        writer.write(frame(_TEXT, b'{"type":"close"}'))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(2)
            length = head[1]
            if length >= _SHORT:
                length = int.from_bytes(await reader.readexactly(2 if length == _SHORT else 8), "big")
            payload = await reader.readexactly(length)
            match head[0]:
                case 0x81:
                    self._take(payload)
                case 0x89:
                    writer.write(frame(_PONG, payload))
                case 0x8A:
                    self._intake_s = time.monotonic() - float(payload)
                case 0x88:
                    if payload[:2] != b"\x03\xe8":
                        self._heard.errors.append(f"closed: {payload!r}")
                    writer.write(frame(_CLOSE, payload))
                    return
                case other:
                    raise SystemExit(f"the service sent an unknown frame: {other:#x}")

    def _take(self, payload: bytes) -> None:
        message = json.loads(payload)
        match message["type"]:
            case "partial":
                self._heard.lag_s.append(message["lag_ms"] / 1000 + self._intake_s)
            case "speech_stopped":
                self._stopped_s = message["at"]
            case "final":
                if self._stopped_s is not None and not self._closing:
                    self._heard.final_s.append(time.monotonic() - self._began - self._stopped_s)
                self._stopped_s = None
            case "error":
                self._heard.errors.append(message["message"])
            case _:
                pass


async def _run(url: str, speeches: Sequence[Sequence[bytes]], config: str, heard: Heard) -> None:
    async def one(at: int, frames: Sequence[bytes]) -> None:
        await asyncio.sleep(_BEGIN_WITHIN_S * at / len(speeches))
        await _Speaker(frames, config, heard).converse(url)

    await asyncio.gather(*(one(at, frames) for at, frames in enumerate(speeches)))


def main() -> None:
    """Speak, and print what was heard."""
    url, directory, seconds, count, first, step, pauses, config = sys.argv[1:]
    parts = recordings(Path(directory) if directory else None)
    samples = joined(parts, at_least_s=float(seconds) + sum(part.duration_s for part in parts)).samples
    speeches: list[list[bytes]] = []
    for number in range(int(first), int(count), int(step)):
        said = conversation(parts, number, float(seconds)) if pauses == "1" else clip(samples, number, float(seconds))
        data = np.ascontiguousarray(said, "<i2").tobytes()
        speeches.append([frame(_BINARY, data[at : at + 2 * _FRAME]) for at in range(0, len(data), 2 * _FRAME)])
    print("ready", flush=True)
    sys.stdin.readline()
    heard, before_s = Heard(), time.process_time()
    asyncio.run(_run(url, speeches, config, heard))
    heard.cpu_s = time.process_time() - before_s
    print(json.dumps(asdict(heard)))


if __name__ == "__main__":
    main()
