"""One client's session: what it says, and what it hears."""

import asyncio
import base64
from collections.abc import Iterable
from contextlib import aclosing

from .....application.live_transcriber import LiveTranscriber
from .....application.ports.speech_model import ModelDescription, SpeechModel
from .....application.stream_session import StreamSession
from .....domain.errors import (
    CallerError,
    FrameTooLargeError,
    InvalidRequestError,
    ProtocolError,
    RateLimitError,
    ServiceError,
)
from ...guards.drain import Drain
from ...guards.error_responses import ERROR_RESPONSES
from ...guards.rate_limits import Allowance
from ...guards.websocket_gateway import JsonObject, WebSocketChannel, bytes_per_s
from .events import error_event, event
from .schemas import (
    MOST_BASE64,
    Append,
    Clear,
    ClientEvent,
    Commit,
    DeleteItem,
    ServerVad,
    SessionUpdate,
    Unsupported,
    read_event,
    read_json,
)
from .session_config import SessionConfig
from .turns import Trigger, Turns

_GOING_AWAY = 1001
_PIECE_S = 1.0
"""Audio is passed on in pieces: one event may have minutes of it, and others want their turn."""
_BASE64_PIECE = 1 << 18
"""Characters; a multiple of four."""


class RealtimeSession:
    """One client, from its first event to the close."""

    def __init__(
        self,
        line: WebSocketChannel,
        sessions: StreamSession,
        drain: Drain,
        allowance: Allowance,
        *,
        session_id: str,
        asked: Iterable[JsonObject],
        flat: bool,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            line: The way to the client.
            sessions: Reads its audio.
            drain: Tells when the service goes away.
            allowance: What the client may send.
            session_id: The session's name.
            asked: What was asked of the session before it began, as updates.
            flat: Whether the client speaks the beta protocol; the events by which it changes the session decide later.
        """
        self._line = line
        self._sessions = sessions
        self._drain = drain
        self._allowance = allowance
        self._session_id = session_id
        self._asked = tuple(asked)
        self._flat = flat
        self._turns = Turns()
        self._saying = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._options = sessions.defaults
        self._begun_s = 0.0  # where the present live session begins in the audio of all of them
        self._bytes = 0  # that it was given
        self._closing = False
        self._reopening = False
        self._refusal: RateLimitError | None = None
        self._failure: str | None = None

    @property
    def facts(self) -> dict[str, float | str | None]:
        """For the log: seconds of audio that came, turns that were told, and what went wrong."""
        facts: dict[str, float | str | None] = {
            "audio_s": round(self._received_s, 3),
            "utterances": self._turns.completed,
        }
        return facts | ({"code": self._failure} if self._failure else {})

    async def run(self, model: SpeechModel) -> None:
        """Talk until the service goes away or something fails; then close.

        Raises:
            What the line raises when the client is gone.
        """
        try:
            await self._converse(model.describe())
            code = _GOING_AWAY
        except ServiceError as error:
            self._failure = error.code
            await self._say(*self._turns.fail(error), error_event(error))
            code = ERROR_RESPONSES[error.code].close_code
        await self._line.close(code)

    @property
    def _received_s(self) -> float:
        return self._begun_s + self._bytes / bytes_per_s(self._options)

    async def _converse(self, model: ModelDescription) -> None:
        self._setup = SessionConfig.of(model)
        for session in self._asked:
            self._setup = self._setup.updated(session)
        greeting = [event("session.created", session=self._setup.in_force(self._session_id, flat=self._flat))]
        while True:
            self._begun_s, self._bytes = self._received_s, 0
            self._options = self._setup.options(self._sessions.defaults)
            self._turns.begin(self._setup, at_s=self._begun_s, flat=self._flat)
            self._closing = self._reopening = False
            async with self._sessions.open(self._options) as live:
                await self._say(*greeting)
                await self._listen_and_tell(live)
            greeting = []
            if self._refusal is not None:
                raise self._refusal
            if not self._reopening:
                return

    async def _listen_and_tell(self, live: LiveTranscriber) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(self._listen(live)), tasks.create_task(self._leave(live))]
                match self._setup.turn_detection:
                    case ServerVad(idle_timeout_ms=int(idle_ms)):
                        others.append(tasks.create_task(self._mind_silence(live, idle_ms / 1000)))
                    case _:
                        pass
                async with aclosing(live.events()) as events:
                    async for heard in events:
                        self._stirred.set()
                        await self._say(*self._turns.hear(heard))
                for other in others:
                    other.cancel()
        except ExceptionGroup as group:
            # The first one ended the others.
            raise group.exceptions[0] from None

    async def _listen(self, live: LiveTranscriber) -> None:
        """Take what the client says, until another live session is to hear the rest.

        Goes on after the last word, to notice when the client leaves.
        """
        while not self._reopening:
            cause: object = None
            try:
                message = await self._line.receive()
                if self._closing:
                    continue
                said = read_json(message)
                cause = said.get("event_id")
                await self._obey(read_event(said), live)
            except CallerError as error:
                # The session goes on: many clients give up at any error, and the others have understood it.
                await self._say(error_event(error, cause=cause if isinstance(cause, str) else None))

    async def _obey(self, said: ClientEvent, live: LiveTranscriber) -> None:
        match said:
            case Append():
                await self._append(said.audio, live)
            case SessionUpdate():
                await self._update(said, live)
            case Commit():
                await self._ask(Trigger.COMMIT, live)
            case Clear():
                await self._ask(Trigger.CLEAR, live)
            case DeleteItem():
                await self._say(event("conversation.item.deleted", item_id=said.item_id))
            case Unsupported():
                raise ProtocolError(f"A transcription session does not support {said.type}.", param="type")

    async def _append(self, audio: str, live: LiveTranscriber) -> None:
        if len(audio) > MOST_BASE64:
            raise FrameTooLargeError(limit_bytes=MOST_BASE64)
        data = await _decoded(audio)
        rate = bytes_per_s(self._options)
        piece = int(_PIECE_S * rate)
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            try:
                await self._allowance.spend(len(part) / rate)
            except RateLimitError as error:
                self._refusal = error
                await self._close(live)
                return
            await live.send(part)
            self._bytes += len(part)
            await asyncio.sleep(0)

    async def _update(self, said: SessionUpdate, live: LiveTranscriber) -> None:
        before, self._setup = self._setup, self._setup.updated(said.session)
        self._flat = said.type.startswith("transcription_session")
        kind = "transcription_session.updated" if self._flat else "session.updated"
        await self._say(event(kind, session=self._setup.in_force(self._session_id, flat=self._flat)))
        options = self._setup.options(self._sessions.defaults)
        if options == self._options and self._setup.turn_detection == before.turn_detection:
            self._turns.begin(self._setup, at_s=self._begun_s, flat=self._flat)
        else:
            # How audio is read is fixed when a live session begins: what was said so far is read to its end.
            self._reopening = True
            await self._close(live)

    async def _mind_silence(self, live: LiveTranscriber, idle_s: float) -> None:
        """Tell of each time that nobody has said anything for `idle_s`, though there was audio."""
        while not self._closing:
            self._stirred.clear()
            try:
                async with asyncio.timeout(idle_s):
                    await self._stirred.wait()
            except TimeoutError:
                heard_s = self._begun_s + live.heard_s
                has_heard_all = self._received_s - heard_s < _PIECE_S
                if self._turns.is_quiet and has_heard_all and heard_s > self._turns.ended_s:
                    await self._ask(Trigger.IDLE, live)

    async def _leave(self, live: LiveTranscriber) -> None:
        await self._drain.wait_begun()
        self._reopening = False
        await self._close(live)

    async def _ask(self, why: Trigger, live: LiveTranscriber) -> None:
        # Both must be done in one order: what was asked for first is answered first.
        async with self._asking:
            if self._closing:
                return
            self._turns.ask(why, at_s=self._received_s)
            await (live.clear() if why is Trigger.CLEAR else live.finalize())

    async def _close(self, live: LiveTranscriber) -> None:
        async with self._asking:
            if not self._closing:
                self._closing = True
                self._turns.ask(Trigger.LAST, at_s=self._received_s)
                await live.close()

    async def _say(self, *messages: JsonObject) -> None:
        for message in messages:
            async with self._saying:
                await self._line.say(message)


async def _decoded(audio: str) -> bytes:
    """The bytes behind base64, in pieces: 15 MiB at once would hold up everybody for 50 ms."""
    pieces: list[bytes] = []
    try:
        for at in range(0, len(audio), _BASE64_PIECE):
            pieces.append(base64.b64decode(audio[at : at + _BASE64_PIECE], validate=True))
            await asyncio.sleep(0)
    except ValueError as error:
        raise InvalidRequestError("audio: not valid base64.", param="audio") from error
    return b"".join(pieces)
