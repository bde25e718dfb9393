"""The live protocol: what a client says on its WebSocket, and what it hears."""

import asyncio
from contextlib import aclosing
from typing import Protocol

from ....application.drain import Drain
from ....application.live_transcriber import LiveTranscriber
from ....application.ports.speech_model import ModelDescription, SpeechModel
from ....application.run_unless import run_unless
from ....application.stream_session import StreamSession
from ....domain.errors import CallerError, RateLimitError, ServiceError, SessionIdleError
from ....domain.live import Final
from ..guards.allowance import Allowance
from ..guards.error_responses import ERROR_RESPONSES
from ..guards.errors import ProtocolError
from ..guards.websocket_gateway import JsonObject, bytes_per_s
from .schemas import (
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

_DONE, _GOING_AWAY = 1000, 1001


class _Line(Protocol):
    async def receive(self) -> bytes | str: ...
    async def say(self, message: JsonObject) -> None: ...
    async def close(self, code: int) -> None: ...


class Conversation:
    """One client, from its first message to the close."""

    def __init__(
        self,
        line: _Line,
        sessions: StreamSession,
        drain: Drain,
        allowance: Allowance,
        *,
        session_id: str,
        longest_idle_s: float,
    ) -> None:
        """Prepare; `run` begins. A client of which nothing comes for so long has left its place to others."""
        self._line = line
        self._sessions = sessions
        self._drain = drain
        self._allowance = allowance
        self._session_id = session_id
        self._longest_idle_s = longest_idle_s
        self._options = sessions.defaults
        self._words = False
        self._closing = False
        self._bytes = 0
        self._utterances = 0
        self._refusal: RateLimitError | SessionIdleError | None = None
        self._failure: str | None = None

    @property
    def facts(self) -> dict[str, float | str | None]:
        """For the log: seconds of audio that came, utterances that were told, and what went wrong."""
        facts: dict[str, float | str | None] = {
            "audio_s": round(self._bytes / bytes_per_s(self._options), 3),
            "utterances": self._utterances,
        }
        return facts | ({"code": self._failure} if self._failure else {})

    async def run(self, model: SpeechModel) -> None:
        """Talk until the client has enough, the service goes away, or something fails; then close.

        Raises:
            What the line raises when the client is gone.
        """
        description: ModelDescription | None = None
        try:
            description = model.describe()
            await self._converse(description)
            if self._refusal is not None:
                raise self._refusal
            code = _GOING_AWAY if self._drain.begun else _DONE
        except ServiceError as error:
            self._failure = error.code
            message = error_message(error)
            if isinstance(error, CallerError) and description is not None:
                message["limits"] = limits_message(description)
            await self._line.say(message)
            code = ERROR_RESPONSES[error.code].close_code
        await self._line.close(code)

    async def _converse(self, description: ModelDescription) -> None:
        async with self._sessions.open(self._options) as session:
            await self._line.say(
                {
                    "type": "ready",
                    "session_id": self._session_id,
                    "sample_rate": self._options.sample_rate_hz,
                    "limits": limits_message(description),
                }
            )
            first = await run_unless(self._drain.wait_begun(), self._receive())
            command = read_command(first) if isinstance(first, str) else None
            if not isinstance(command, ConfigCommand):
                await self._listen_and_tell(session, first)
                return
        # What a stream is cut into is fixed when it begins: the one that nobody spoke into makes way.
        self._words = command.words
        self._options = command.options(self._sessions.defaults)
        async with self._sessions.open(self._options) as session:
            await self._listen_and_tell(session, None)

    async def _listen_and_tell(self, session: LiveTranscriber, first: bytes | str | None) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(session, first))
                leaving = tasks.create_task(self._leave(session))
                async with aclosing(session.events()) as events:
                    async for event in events:
                        self._utterances += isinstance(event, Final) and bool(event.words)
                        await self._line.say(event_message(event, words=self._words))
                listening.cancel()
                leaving.cancel()
        except ExceptionGroup as group:
            # The first one ended the others.
            raise group.exceptions[0] from None

    async def _listen(self, session: LiveTranscriber, first: bytes | str | None) -> None:
        """Take what the client says; goes on after the last word, to notice when it leaves."""
        try:
            if first is not None:
                await self._hear(first, session)
            while not self._closing:
                await self._hear(await self._receive(), session)
        except SessionIdleError as error:
            if not self._closing:
                # What was said until now is still told.
                self._refusal = error
                await self._close(session)
        while True:
            await self._line.receive()

    async def _hear(self, message: bytes | str, session: LiveTranscriber) -> None:
        if self._closing:
            return
        if isinstance(message, bytes):
            await self._take(message, session)
        else:
            await self._obey(message, session)

    async def _take(self, audio: bytes, session: LiveTranscriber) -> None:
        try:
            await self._allowance.spend(len(audio) / bytes_per_s(self._options))
        except RateLimitError as error:
            # What was said until now is still told.
            self._refusal = error
            await self._close(session)
            return
        self._bytes += len(audio)
        await session.send(audio)

    async def _receive(self) -> bytes | str:
        try:
            async with asyncio.timeout(self._longest_idle_s):
                return await self._line.receive()
        except TimeoutError as error:
            raise SessionIdleError(limit_s=self._longest_idle_s) from error

    async def _obey(self, text: str, session: LiveTranscriber) -> None:
        match read_command(text):
            case ConfigCommand():
                raise ProtocolError("config must be the first message.")
            case FinalizeCommand():
                await session.finalize()
            case ClearCommand():
                await session.clear()
            case CloseCommand():
                await self._close(session)
            case KeepaliveCommand():
                pass

    async def _leave(self, session: LiveTranscriber) -> None:
        await self._drain.wait_begun()
        await self._close(session)

    async def _close(self, session: LiveTranscriber) -> None:
        if not self._closing:
            self._closing = True
            await session.close()
