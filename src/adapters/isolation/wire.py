"""Messages between the service and the model's process: typed MessagePack over a pair of sockets.

A frame is the length of a message as four bytes, big-endian, and the message. Nothing that comes from the child can run
code in the parent, whatever a crash has made of the child's memory.
"""

from asyncio import IncompleteReadError, StreamReader
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from ...domain.audio import Samples
from ...domain.errors import InferenceError, ServiceError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token

BUFFER_BYTES = 1 << 20
"""For the sockets and their readers: ten seconds of samples in one go; macOS gives 8 KiB by default."""
_LONGEST_BYTES = 1 << 28
"""No window is nearly as long: more than an hour of samples. A longer message is garbage."""

Message = TypeVar("Message")


class Request(Struct, omit_defaults=True):
    """What the child is to do, with its arguments.

    Attributes:
        do: A method of the ports; or ``ping``, which only asks for an answer; or ``cancel`` or ``stop``, without one.
        number: By which the answer is known, and the stream that was opened; of ``cancel``, the request to cancel.
        log: The context of the log lines that it causes.
        recipe: Of the model, pickled, to be started.
        stream: The number of the request that opened it.
    """

    do: Literal["start", "transcribe", "open_stream", "decode", "flush", "ping", "cancel", "stop"]
    number: int = 0
    log: dict[str, str] = {}
    recipe: bytes = b""
    stream: int = 0
    samples: memoryview = memoryview(b"")
    after_s: float = 0.0
    start_s: float | None = None
    decoding: Decoding = GREEDY
    context: StreamContext | None = None


class Answer(Struct, tag=True, omit_defaults=True):
    """The result of a request, by its type; or its error: code, message, and all attributes."""

    number: int
    description: ModelDescription | None = None
    tokens: tuple[Token, ...] = ()
    hypothesis: Hypothesis | None = None
    error: tuple[str, str, dict[str, Any]] | None = None


class Metric(Struct, tag=True):
    """A call of a method of `ModelMetrics`."""

    name: Literal["queue_changed", "window_refused", "window_began", "batch_read", "streams_changed"]
    values: dict[str, bool | int | float]


_encoder = Encoder()
requests = Decoder(Request)
answers: Decoder[Answer | Metric] = Decoder(Answer | Metric)


class BrokenFrameError(Exception):
    """The bytes are no message of ours: the other process is out of its mind."""


def frame(message: Struct) -> bytearray:
    """A message as it goes over the socket."""
    data = bytearray(4)
    _encoder.encode_into(message, data, 4)
    data[:4] = (len(data) - 4).to_bytes(4, "big")
    return data


async def receive(reader: StreamReader, decoder: Decoder[Message]) -> Message | None:
    """The next message; ``None`` once the other process is gone.

    Raises:
        BrokenFrameError: What arrived is no message.
    """
    try:
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > _LONGEST_BYTES:
            raise BrokenFrameError(f"a message of {length} bytes")
        return decoder.decode(await reader.readexactly(length))
    except (IncompleteReadError, ConnectionError):
        return None
    except msgspec.DecodeError as error:
        raise BrokenFrameError(str(error)) from error


def payload_of(samples: Samples) -> memoryview:
    """Samples as they are sent."""
    return np.ascontiguousarray(samples, dtype="<f4").view(np.uint8).data


def samples_of(payload: memoryview) -> Samples:
    """The samples again; they cannot be written to."""
    return np.require(np.frombuffer(payload, "<f4"), np.float32, "A")


def error_of(code: str, message: str, attributes: dict[str, Any]) -> ServiceError:
    """The error of an answer, of the same class and with the same attributes as in the child."""
    kind = _leaves(ServiceError).get(code, InferenceError)
    # Constructors differ, and some make the message themselves.
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    vars(error).update(attributes)
    return error


def _leaves(kind: type[ServiceError]) -> dict[str, type[ServiceError]]:
    below = {code: leaf for child in kind.__subclasses__() for code, leaf in _leaves(child).items()}
    return below or {kind.code: kind}
