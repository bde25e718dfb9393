"""OpenAI's realtime protocol, as the live loop understands it."""

import asyncio
import base64
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import TypeAlias

from .....application.live_codec import (
    Clear,
    Command,
    Configure,
    Configured,
    Failed,
    Finalize,
    LiveProgress,
    LoopEvent,
    Ready,
    Reply,
    SendAudio,
)
from .....application.ports.speech_model import SpeechModel
from .....application.stream_session import LiveOptions
from .....domain.errors import CallerError, InvalidRequestError
from .....domain.live import EndCause, Final
from ...guards.errors import FrameTooLargeError, ProtocolError
from ...guards.websocket_gateway import JsonObject, WebSocketChannel
from . import events, schemas
from .schemas import FRAME_BYTES, MOST_BASE64, ClientEvent, ServerVad, SessionUpdate, read_event, read_json
from .session_config import SessionConfig
from .turns import Trigger, Turns

_PIECE_S = 1.0
"""Audio is passed on in pieces: one event may have minutes of it, and others want their turn."""
_BASE64_PIECE = 1 << 18
"""Characters; a multiple of four."""

_Commands: TypeAlias = Iterable[Command[JsonObject]]


class Silence(Enum):
    """Takes the place of a message where nobody has spoken for as long as the client wants to be told of."""

    TOO_LONG = auto()


class RealtimeCodec:
    """One client's session."""

    def __init__(
        self, model: SpeechModel, defaults: LiveOptions, *, session_id: str, asked: Iterable[JsonObject], flat: bool
    ) -> None:
        """Begin before the first event.

        Args:
            model: Described to the client.
            defaults: What the session has that OpenAI's protocol does not know.
            session_id: The session's name.
            asked: What was asked of the session before it began, as updates.
            flat: Whether the client speaks the beta protocol; the events by which it changes the session decide later.
        """
        self._model = model
        self._defaults = defaults
        self._session_id = session_id
        self._asked = tuple(asked)
        self._flat = flat
        self._turns = Turns()
        self._begun_s = 0.0  # where the turns of the present options begin
        self.last_event_s = 0.0
        """When there was an event last, or a silence that was too long; by the event loop's clock."""

    @property
    def silence_limit_s(self) -> float | None:
        """After how much silence the client wants to be told of it."""
        match self._config.turn_detection:
            case ServerVad(idle_timeout_ms=int(idle_ms)):
                return idle_ms / 1000
            case _:
                return None

    def begin(self) -> LiveOptions:
        """See the port."""
        self._config = SessionConfig.of(self._model.describe())
        for session in self._asked:
            self._config = self._config.updated(session)
        self._options = self._config.options(self._defaults)
        return self._options

    async def decode(self, message: bytes | str | Silence) -> _Commands:
        """See the port; a client's mistakes are answered with an error, and the session goes on."""
        if isinstance(message, Silence):
            return self._mind_silence()
        cause: object = None
        try:
            if len(message) > FRAME_BYTES:
                raise FrameTooLargeError(limit_bytes=FRAME_BYTES)
            said = read_json(message)
            cause = said.get("event_id")
            return await self._commands(read_event(said))
        except CallerError as error:
            # Many clients give up at any error, and the others have understood it.
            return (Reply(events.error_event(error, cause=cause[:512] if isinstance(cause, str) else None)),)

    def encode(self, event: LoopEvent) -> Sequence[JsonObject]:
        """See the port."""
        self.last_event_s = asyncio.get_running_loop().time()
        match event:
            case Ready(progress):
                self._progress: LiveProgress = progress
                self._start_turns(at_s=0.0)
                return (events.event("session.created", session=self._in_force()),)
            case Configured(at_s):
                self._start_turns(at_s=at_s)
                return ()
            case Failed(error):
                return (*self._turns.fail(error), events.error_event(error))
            case _:
                if isinstance(event, Final) and event.cause is EndCause.ASKED and not self._turns.is_asked:
                    # It was the loop that asked, at the end of what is transcribed with these options.
                    self._turns.ask(Trigger.LAST, at_s=self._progress.audio_s)
                return tuple(self._turns.hear(event))

    async def _commands(self, said: ClientEvent) -> _Commands:
        match said:
            case schemas.Append(audio=audio):
                data = await _decoded(audio)
                piece = int(_PIECE_S * self._options.bytes_per_s)
                return (SendAudio(data[at : at + piece]) for at in range(0, len(data), piece))
            case SessionUpdate():
                return self._update(said)
            case schemas.Commit():
                return (self._ask(Trigger.COMMIT),)
            case schemas.Clear():
                return (self._ask(Trigger.CLEAR),)
            case schemas.DeleteItem(item_id=item_id):
                return (Reply(events.event("conversation.item.deleted", item_id=item_id)),)
            case schemas.Unsupported():
                raise ProtocolError(f"A transcription session does not support {said.type}.", param="type")

    def _update(self, said: SessionUpdate) -> _Commands:
        before, self._config = self._config, self._config.updated(said.session)
        self._flat = said.type.startswith("transcription_session")
        kind = "transcription_session.updated" if self._flat else "session.updated"
        updated = Reply(events.event(kind, session=self._in_force()))
        options = self._config.options(self._defaults)
        if options == self._options and self._config.turn_detection == before.turn_detection:
            self._start_turns(at_s=self._begun_s)
            return (updated,)
        self._options = options
        return (updated, Configure(options))

    def _mind_silence(self) -> _Commands:
        heard_s = self._progress.heard_s
        has_heard_all = self._progress.audio_s - heard_s < _PIECE_S
        if self._turns.is_quiet and has_heard_all and heard_s > self._turns.ended_s:
            return (self._ask(Trigger.IDLE),)
        return ()

    def _ask(self, why: Trigger) -> Finalize | Clear:
        self._turns.ask(why, at_s=self._progress.audio_s)
        return Clear() if why is Trigger.CLEAR else Finalize()

    def _in_force(self) -> JsonObject:
        return self._config.in_force(self._session_id, flat=self._flat)

    def _start_turns(self, *, at_s: float) -> None:
        self._begun_s = at_s
        self._turns.begin(self._config, at_s=at_s, flat=self._flat)


class RealtimeChannel:
    """A client's socket, on which silence that is too long arrives as a message."""

    def __init__(self, socket: WebSocketChannel, codec: RealtimeCodec) -> None:
        """Receive from `socket`; `codec` says how long a silence is too long."""
        self._socket = socket
        self._codec = codec
        self.send = socket.send

    async def receive(self) -> bytes | str | Silence:
        """See the port."""
        codec = self._codec
        while (limit_s := codec.silence_limit_s) is not None:
            ends_s = codec.last_event_s + limit_s
            try:
                async with asyncio.timeout_at(ends_s):
                    return await self._socket.receive()
            except TimeoutError:
                if codec.last_event_s + limit_s <= ends_s:
                    codec.last_event_s = asyncio.get_running_loop().time()
                    return Silence.TOO_LONG
        return await self._socket.receive()


async def _decoded(audio: str) -> bytes:
    """The bytes behind base64, in pieces: 15 MiB at once would hold up everybody for 50 ms."""
    if len(audio) > MOST_BASE64:
        raise FrameTooLargeError(limit_bytes=MOST_BASE64)
    pieces: list[bytes] = []
    try:
        for at in range(0, len(audio), _BASE64_PIECE):
            pieces.append(base64.b64decode(audio[at : at + _BASE64_PIECE], validate=True))
            await asyncio.sleep(0)
    except ValueError as error:
        raise InvalidRequestError("audio: not valid base64.", param="audio") from error
    return b"".join(pieces)
