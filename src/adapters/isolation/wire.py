"""What the two processes say to each other: frames of a JSON object and raw bytes, over a pair of sockets.

A frame is the lengths of its two parts, each as four bytes, big-endian, and then the parts. Nothing that comes from
the child can run code in the parent, whatever a crash has made of the child's memory.
"""

import json
import struct
from asyncio import IncompleteReadError, StreamReader
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from ...domain.audio import Samples
from ...domain.errors import InferenceError, ServiceError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token

Message: TypeAlias = dict[str, Any]

BUFFER_BYTES = 1 << 20
"""For the sockets and their readers: ten seconds of samples in one go; macOS gives 8 KiB by default."""
_LENGTHS = struct.Struct(">II")
_LONGEST_BYTES = 1 << 28
"""No window is nearly as long: more than an hour of samples. A longer part is garbage."""


class BrokenFrameError(Exception):
    """The bytes are no frame: the other side has gone mad."""


def frame(message: Message, payload: bytes = b"") -> bytes:
    """One message as it goes over the socket."""
    text = json.dumps(message).encode()
    return b"".join((_LENGTHS.pack(len(text), len(payload)), text, payload))


async def receive(reader: StreamReader) -> tuple[Message, bytes] | None:
    """The next message and its bytes; ``None`` once the other side is gone.

    Raises:
        BrokenFrameError: What came is no frame.
    """
    try:
        lengths: tuple[int, int] = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        if max(lengths) > _LONGEST_BYTES:
            raise BrokenFrameError("A frame is longer than any can be.")
        text, payload = [await reader.readexactly(length) for length in lengths]
    except (IncompleteReadError, ConnectionError):
        return None
    try:
        message: Message = json.loads(text)
    except ValueError as error:
        raise BrokenFrameError("A frame holds no JSON.") from error
    return message, payload


def bytes_of(samples: Samples) -> bytes:
    """Samples as they are sent."""
    return np.ascontiguousarray(samples, dtype="<f4").tobytes()


def samples_of(payload: bytes) -> Samples:
    """The samples again; they cannot be written to."""
    return np.frombuffer(payload, "<f4").astype(np.float32, copy=False)


def rows_of(tokens: Iterable[Token]) -> list[list[Any]]:
    """Tokens as JSON: not by `dataclasses.astuple`, which takes a hundred times as long, in the event loop."""
    return [[token.id, token.text, token.start_s, token.end_s, token.confidence] for token in tokens]


def tokens_of(rows: Iterable[list[Any]]) -> tuple[Token, ...]:
    """The tokens again."""
    return tuple(Token(*row) for row in rows)


def object_of(hypothesis: Hypothesis | None) -> Message | None:
    """A step's news as JSON, if there are any."""
    if hypothesis is None:
        return None
    return {
        "finalized": rows_of(hypothesis.finalized),
        "draft": rows_of(hypothesis.draft),
        "finalized_until_s": hypothesis.finalized_until_s,
        "decoded_until_s": hypothesis.decoded_until_s,
    }


def hypothesis_of(message: Message) -> Hypothesis:
    """The news again."""
    return Hypothesis(
        finalized=tokens_of(message["finalized"]),
        draft=tokens_of(message["draft"]),
        finalized_until_s=message["finalized_until_s"],
        decoded_until_s=message["decoded_until_s"],
    )


def state_of(error: ServiceError) -> Message:
    """An error of the domain as JSON: its code, and all that the caller may hear."""
    return {"code": error.code, "message": error.message, "state": vars(error)}


def error_of(message: Message) -> ServiceError:
    """The error again, of the same class and with the same attributes."""
    kind = _leaves(ServiceError).get(message["code"], InferenceError)
    # Constructors differ, and some make the message themselves.
    error = kind.__new__(kind)
    Exception.__init__(error, message["message"])
    vars(error).update(message["state"])
    return error


def _leaves(kind: type[ServiceError]) -> dict[str, type[ServiceError]]:
    below = {code: leaf for child in kind.__subclasses__() for code, leaf in _leaves(child).items()}
    return below or {kind.code: kind}
