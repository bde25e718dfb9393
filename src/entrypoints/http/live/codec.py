"""The live protocol at ``/ws``, as the live loop understands it."""

from collections.abc import Sequence

from ....application.live_codec import (
    Clear,
    Close,
    Command,
    Configure,
    Configured,
    Failed,
    Finalize,
    KeepAlive,
    LoopEvent,
    Ready,
    Reply,
    SendAudio,
)
from ....application.ports.speech_model import SpeechModel
from ....application.stream_session import LiveOptions
from ....domain.errors import CallerError, InvalidRequestError, ServiceError
from ..guards.errors import FrameTooLargeError, ProtocolError
from ..guards.websocket_gateway import JsonObject
from .schemas import (
    FRAME_BYTES,
    ClearCommand,
    CloseCommand,
    ConfigCommand,
    FinalizeCommand,
    KeepaliveCommand,
    error_message,
    event_message,
    limits_message,
    read_command,
)
from .schemas import Command as SaidCommand

_NAMES = {"sample_rate_hz": "sample_rate", "left_s": "left_context_s", "right_s": "right_context_s"}
"""Parameters that the protocol calls otherwise than the core."""


class LiveCodec:
    """One client's session."""

    def __init__(self, model: SpeechModel, defaults: LiveOptions, *, session_id: str) -> None:
        """Begin before the first message; `model` is described to the client."""
        self._model = model
        self._defaults = defaults
        self._session_id = session_id
        self._limits: JsonObject | None = None
        self._is_first = True
        self._words = False

    def begin(self) -> LiveOptions:
        """See the port."""
        return self._defaults

    async def decode(self, message: bytes | str) -> Sequence[Command[JsonObject]]:
        """See the port."""
        if len(message) > FRAME_BYTES:
            raise FrameTooLargeError(limit_bytes=FRAME_BYTES)
        if isinstance(message, bytes):
            self._is_first = False
            return (SendAudio(message),)
        try:
            command = self._obey(read_command(message))
        except ProtocolError as error:
            # A slip of the client's author should cost nobody what they are saying.
            return (Reply(self._error(error)),)
        self._is_first = False
        return (command,)

    def _obey(self, said: SaidCommand) -> Command[JsonObject]:
        match said:
            case ConfigCommand():
                if not self._is_first:
                    raise ProtocolError("config must come before audio and other commands; it changes nothing now.")
                self._words = bool(said.words)
                return Configure(said.options(self._defaults))
            case FinalizeCommand():
                return Finalize()
            case ClearCommand():
                return Clear()
            case KeepaliveCommand():
                return KeepAlive()
            case CloseCommand():
                return Close()

    def encode(self, event: LoopEvent) -> Sequence[JsonObject]:
        """See the port."""
        match event:
            case Ready():
                self._limits = limits_message(self._model.describe())
                ready: JsonObject = {"type": "ready", "session_id": self._session_id}
                return (ready | {"sample_rate": self._defaults.sample_rate_hz, "limits": self._limits},)
            case Configured():
                return ()
            case Failed(error):
                if isinstance(error, InvalidRequestError):
                    error = error.renamed(_NAMES)
                return (self._error(error),)
            case _:
                return (event_message(event, words=self._words),)

    def _error(self, error: ServiceError) -> JsonObject:
        told = error_message(error)
        if isinstance(error, CallerError) and self._limits is not None:
            told["limits"] = self._limits
        return told
