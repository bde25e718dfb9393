"""What goes over the socket between the service and a child process: typed MessagePack.

A frame is the length of a message as four bytes, big-endian, and the message. Nothing that comes from the child can run
code in the parent, whatever a crash has made of the child's memory.
"""

import socket
from asyncio import IncompleteReadError, StreamReader
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Raw, Struct
from msgspec.msgpack import Decoder, Encoder

from ...domain.audio import Samples
from ...domain.errors import InferenceError, ServiceError

BUFFER_BYTES = 1 << 20
"""For the sockets and their readers: ten seconds of samples in one go; macOS gives 8 KiB by default."""
_LONGEST_BYTES = 1 << 28
"""No window is nearly as long: more than an hour of samples. A longer message is garbage."""

Message = TypeVar("Message")


class Begin(Struct, tag=True):
    """Make what answers the calls, by this pickled recipe, and have it answer at a path, too; answered as call 0."""

    recipe: bytes
    listen: str | None = None


class Greet(Struct, tag=True):
    """Say what you are; answered as call 0."""


class Call(Struct, tag=True, omit_defaults=True):
    """A request, by a number of its own; without one it asks for any answer. Log lines get the fields of `log`."""

    number: int
    request: Raw = Raw()
    log: dict[str, str] = {}


class Cancel(Struct, tag=True):
    """Stop working on a call."""

    number: int


class Stop(Struct, tag=True):
    """Finish what runs, and exit."""


class Answer(Struct, tag=True):
    """The result of a call."""

    number: int
    result: Raw


class Failure(Struct, tag=True):
    """The error of a call: its code, message, and all attributes."""

    number: int
    code: str
    message: str
    attributes: dict[str, Any]

    @classmethod
    def of(cls, number: int, error: ServiceError) -> "Failure":
        """What tells of `error`."""
        return cls(number, error.code, error.message, vars(error))

    def error(self) -> ServiceError:
        """An error of the same class and with the same attributes as in the child."""
        kind = _leaves(ServiceError).get(self.code, InferenceError)
        # Constructors differ, and some make the message themselves.
        error = kind.__new__(kind)
        Exception.__init__(error, self.message)
        vars(error).update(self.attributes)
        return error


class Event(Struct, tag=True):
    """What the child tells unasked."""

    event: Raw


class BrokenMessageError(Exception):
    """The bytes are no message of ours: the other process is out of its mind."""


def nothing(*_: object) -> None:
    """Do nothing."""


def with_room(end: socket.socket) -> socket.socket:
    """The same socket, with buffers for whole messages."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    end.setblocking(False)  # noqa: FBT003 - its only parameter
    return end


def decoder_of(kind: Any) -> Decoder[Any]:
    """Decodes this type; arrays in it are samples, which cannot be written to."""
    return Decoder(kind, dec_hook=lambda _, payload: np.frombuffer(payload, "<f4"))


to_child: Decoder[Begin | Greet | Call | Cancel | Stop] = decoder_of(Begin | Greet | Call | Cancel | Stop)
to_parent: Decoder[Answer | Failure | Event] = decoder_of(Answer | Failure | Event)


def decoded(data: bytes | Raw, decoder: Decoder[Message]) -> Message:
    """A message, or what is in it.

    Raises:
        BrokenMessageError: It is none.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BrokenMessageError(str(error)) from error


async def receive(reader: StreamReader, decoder: Decoder[Message]) -> Message | None:
    """The next message; ``None`` once the other process is gone.

    Raises:
        BrokenMessageError: What arrived is none.
    """
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > _LONGEST_BYTES:
            raise BrokenMessageError(f"a message of {length} bytes")
        return decoded(await reader.readexactly(length), decoder)
    except (IncompleteReadError, ConnectionError):
        return None


def frame(message: Struct) -> bytearray:
    """A message as it goes over the socket. What is to be decoded as ``Raw`` may be anything."""
    data = bytearray(4)
    _encoder.encode_into(message, data, 4)
    data[:4] = (len(data) - 4).to_bytes(4, "big")
    return data


def _payload(samples: Samples) -> memoryview:
    return np.ascontiguousarray(samples, dtype="<f4").view(np.uint8).data


_encoder = Encoder(enc_hook=_payload)


def _leaves(kind: type[ServiceError]) -> dict[str, type[ServiceError]]:
    below = {code: leaf for child in kind.__subclasses__() for code, leaf in _leaves(child).items()}
    return below or {kind.code: kind}
