"""What the live loop and a protocol say to each other: commands from the client, events for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from ..domain.errors import ServiceError
from ..domain.live import LiveEvent
from .stream_session import LiveOptions

Received = TypeVar("Received")
"""A protocol's message from the client."""
Sent = TypeVar("Sent")
"""A protocol's message to the client."""
Received_co = TypeVar("Received_co", covariant=True)
Received_contra = TypeVar("Received_contra", contravariant=True)
Sent_co = TypeVar("Sent_co", covariant=True)
Sent_contra = TypeVar("Sent_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Configure:
    """From here on transcribe with these options; what was said before is transcribed to its end first."""

    options: LiveOptions


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Raw audio, in the encoding of the options, its channels interleaved, split anywhere."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Finalize:
    """End the utterance here, on each channel or on `channel`, with a `Final`; the session goes on."""

    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what was said since the last `Final`."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The client is still there."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[Sent_co]):
    """Nothing but an answer of the protocol."""

    message: Sent_co


@dataclass(frozen=True, slots=True)
class Close:
    """End the session once all of its text has been sent."""


Command: TypeAlias = Configure | SendAudio | Finalize | Clear | KeepAlive | Reply[Sent_co] | Close


class LiveProgress(Protocol):
    """How far a live session is, in seconds of all its audio."""

    @property
    def audio_s(self) -> float:
        """Audio that has arrived."""
        ...

    @property
    def heard_s(self) -> float:
        """Audio of which all events were told but those of words."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """The client has a place and may begin; `progress` is that of its session, then and later."""

    progress: LiveProgress


@dataclass(frozen=True, slots=True)
class Configured:
    """The options of a `Configure` are in force; times of the events that follow count from `at_s` of all audio."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ends because of `error`."""

    error: ServiceError


LoopEvent: TypeAlias = Ready | Configured | LiveEvent | Failed


class Channel(Protocol[Received_co, Sent_contra]):
    """A client's connection. What it raises ends the session and passes through the loop, a lost client above all."""

    async def receive(self) -> Received_co:
        """The next message; may be cancelled, and loses none by that."""
        ...

    async def send(self, message: Sent_contra) -> None:
        """Send a message; waits for a client that does not read."""
        ...


class Codec(Protocol[Received_contra, Sent_co]):
    """A protocol, for one session. A `ServiceError` of any method ends the session with `Failed`."""

    def begin(self) -> LiveOptions:
        """What the client has asked for so far, by how it connected."""
        ...

    async def decode(self, message: Received_contra) -> Iterable[Command[Sent_co]]:
        """What the client asks for by this message; each command is carried out before the next is iterated."""
        ...

    def encode(self, event: LoopEvent) -> Iterable[Sent_co]:
        """The messages to the client for this event."""
        ...
