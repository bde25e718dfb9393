"""`stream=true`, message by message."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.requests import ClientDisconnect, Request
from structlog.testing import capture_logs

from parakeet_service.application.ports.speech_model import GREEDY, Decoding
from parakeet_service.application.transcribe_file import Progress
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import InferenceError
from parakeet_service.domain.transcript import Token, Transcript
from parakeet_service.entrypoints.http.guards.request_context import open_request_context
from parakeet_service.entrypoints.http.openai.sse import stream_text
from tests.fakes import KILLS_DECODER, NOT_AUDIO, FailingModel, SteppedModel
from tests.unit.entrypoints.http.openai.test_routes import PATH, post
from tests.unit.entrypoints.world import World, pcm, started

AsgiMessage = MutableMapping[str, Any]


def loud_and_quiet(*parts_s: float) -> bytes:
    """So many seconds of voice, of silence, of voice ..."""
    return b"".join(pcm(part_s, level=0 if at % 2 else 8000) for at, part_s in enumerate(parts_s))


class Listener:
    """A client that speaks ASGI to the application, and reads an answer piece by piece."""

    def __init__(self, world: World, data: bytes, *, most_unread: int = 0, **fields: str) -> None:
        request = world.client().build_request(
            "POST",
            f"http://service{PATH}",
            files={"file": data},
            data={"model": "whisper-1", "stream": "true", **fields},
        )
        self._to_app: asyncio.Queue[AsgiMessage] = asyncio.Queue()
        self._from_app: asyncio.Queue[AsgiMessage] = asyncio.Queue(most_unread)
        self._to_app.put_nowait({"type": "http.request", "body": request.read()})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": ("service", 80),
            "client": ("127.0.0.1", 1),
        }
        self.task = asyncio.create_task(world.app(scope, self._to_app.get, self._from_app.put))

    @property
    def is_full(self) -> bool:
        return self._from_app.full()

    async def begin(self) -> AsgiMessage:
        message = await self._from_app.get()
        assert message["type"] == "http.response.start"
        return message

    async def piece(self) -> str:
        """One event or comment; empty at the end. A slow machine may have signs of life between them."""
        while True:
            message = await self._from_app.get()
            assert message["type"] == "http.response.body"
            if message["body"] != KEEPALIVE_COMMENT:
                body: bytes = message["body"]
                return body.decode()

    async def leave(self) -> None:
        self._to_app.put_nowait({"type": "http.disconnect"})
        await asyncio.wait((self.task,))


@asynccontextmanager
async def listening(world: World, data: bytes, *, most_unread: int = 0, **fields: str) -> AsyncGenerator[Listener]:
    listener = Listener(world, data, most_unread=most_unread, **fields)
    try:
        yield listener
    finally:
        await listener.leave()


def event(piece: str) -> dict[str, Any]:
    assert piece.startswith("data: ")
    assert piece.endswith("\n\n")
    body: dict[str, Any] = json.loads(piece.removeprefix("data: "))
    return body


def events(text: str) -> list[dict[str, Any]]:
    pieces = [piece for piece in text.split("\n\n") if piece and not piece.startswith(":")]
    return [event(piece + "\n\n") for piece in pieces]


async def test_deltas_come_while_the_recording_is_being_read() -> None:
    model = SteppedModel()
    world = await started(model=model, window_s=5)
    # Windows end in the pauses: after 3 s and after 8 s.
    async with listening(world, loud_and_quiet(2.8, 0.4, 4.6, 0.4, 3)) as client:
        model.steps.release()
        start = await client.begin()
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"].startswith(b"text/event-stream")
        assert headers[b"cache-control"] == b"no-cache"
        first = event(await client.piece())
        assert first == {"type": "transcript.text.delta", "delta": "This text comes from a script. Nobody"}
        assert world.decoder.open_now == 1
        for _ in range(10):
            model.steps.release()
        deltas = [first["delta"]]
        while (latest := event(await client.piece()))["type"] == "transcript.text.delta":
            deltas.append(latest["delta"])
        assert len(deltas) > 2
        assert latest["text"] == "".join(deltas)
        assert await client.piece() == ""


async def test_what_the_next_window_reads_again_is_not_sent_yet() -> None:
    model = SteppedModel()
    world = await started(model=model, window_s=5)
    async with listening(world, pcm(12)) as client:
        model.steps.release()
        await client.begin()
        # The window is 5 s long, and the next one begins at 3 s.
        assert event(await client.piece())["delta"] == "This text comes from a script."


async def test_the_end_has_the_text_and_what_it_is_made_of() -> None:
    answer = await post(await started(), pcm(1.2), stream="true")
    assert events(answer.text) == [
        {"type": "transcript.text.delta", "delta": "This text comes"},
        {
            "type": "transcript.text.done",
            "text": "This text comes",
            "usage": {"type": "tokens", "input_tokens": 0, "output_tokens": 3, "total_tokens": 3, "seconds": 1.2},
        },
    ]


async def test_probabilities_come_with_each_delta_and_at_the_end() -> None:
    world = await started(window_s=5)
    answer = await post(world, loud_and_quiet(2.8, 0.4, 4.6), stream="true", include="logprobs")
    *deltas, done = events(answer.text)
    assert len(deltas) == 2
    assert [one for delta in deltas for one in delta["logprobs"]] == done["logprobs"]
    assert "".join(one["token"] for one in done["logprobs"]) == " " + done["text"]


async def test_silence_is_an_end_without_deltas() -> None:
    answer = await post(await started(window_s=5), pcm(12, level=0), stream="true")
    assert [one["type"] for one in events(answer.text)] == ["transcript.text.done"]
    assert events(answer.text)[0]["text"] == ""
    assert ": 12.0 s read\n\n" in answer.text


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [(b"", 400, "empty_audio"), (NOT_AUDIO, 415, "undecodable_audio"), (KILLS_DECODER, 500, "decoder_unavailable")],
)
async def test_what_fails_at_once_has_a_status_of_its_own(data: bytes, status: int, code: str) -> None:
    answer = await post(await started(), data, stream="true")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


class FailsLater(FailingModel):
    """Fails at its second window."""

    windows = 0

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        self.windows += 1
        if self.windows > 1:
            return await super().transcribe(samples, after_s=after_s, decoding=decoding)
        return (Token(0, " word", 0.0, 0.4, 0.9),)


async def test_what_fails_later_is_told_in_the_stream() -> None:
    world = await started(model=FailsLater(InferenceError("It failed.")), window_s=5)
    with capture_logs() as lines:
        answer = await post(world, loud_and_quiet(2.8, 0.4, 4.6), stream="true")
    assert answer.status_code == 200
    assert events(answer.text) == [
        {"type": "transcript.text.delta", "delta": "word"},
        {"error": {"message": "It failed.", "type": "server_error", "param": None, "code": "inference_failed"}},
    ]
    request = [(line["status"], line["code"]) for line in lines if line["event"] == "request"]
    assert request == [(200, "inference_failed")]


async def test_a_defect_is_told_in_the_stream_and_logged() -> None:
    model = FailsLater(RuntimeError("secret"))
    world = await started(model=model, window_s=5)
    with capture_logs() as lines:
        async with listening(world, loud_and_quiet(2.8, 0.4, 4.6)) as client:
            await client.begin()
            assert event(await client.piece())["delta"] == "word"
            error = event(await client.piece())["error"]
            await asyncio.wait((client.task,))
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["unexpected error"]


async def test_a_client_that_leaves_stops_the_work() -> None:
    model = SteppedModel()
    world = await started(model=model, window_s=5)
    with capture_logs() as lines:
        async with listening(world, loud_and_quiet(2.8, 0.4, 4.6, 0.4, 3)) as client:
            model.steps.release()
            await client.begin()
            await client.piece()
            assert world.decoder.open_now == 1
        assert world.decoder.open_now == 0
    assert model.cancelled
    assert [line["code"] for line in lines if line["event"] == "request"] == ["client_gone"]


async def test_a_client_that_leaves_without_reading_stops_the_work() -> None:
    model = SteppedModel()
    world = await started(model=model, window_s=5)
    async with listening(world, loud_and_quiet(2.8, 0.4, 4.6, 0.4, 3), most_unread=1) as client:
        model.steps.release()
        while not client.is_full:
            await asyncio.sleep(0)
        # Now the first word waits for the client.
        for _ in range(100):
            await asyncio.sleep(0)
        assert world.decoder.open_now == 1
    assert (world.decoder.open_now, model.cancelled > 0) == (0, True)


async def test_a_client_that_leaves_before_the_first_word_stops_the_work() -> None:
    model = SteppedModel()
    world = await started(model=model)
    async with listening(world, pcm(1)):
        while not world.decoder.open_now:
            await asyncio.sleep(0)
    assert world.decoder.open_now == 0


def a_request(*incoming: AsgiMessage) -> Request:
    messages = list(incoming)

    async def receive() -> AsgiMessage:
        if messages:
            return messages.pop(0)
        return await asyncio.Event().wait() and {}

    scope: dict[str, Any] = {"type": "http", "path": PATH, "headers": []}
    open_request_context(scope, "1")
    return Request(scope, receive)


@pytest.mark.leaping_clock
async def test_says_that_it_lives_while_there_is_no_news() -> None:
    may_end = asyncio.Event()

    async def work(_: Callable[[Progress], None]) -> Transcript:
        await may_end.wait()
        return Transcript((), (), 1.0)

    answer = await stream_text(a_request(), work, logprobs=False, heartbeat_s=15)
    pieces = aiter(answer.body_iterator)
    assert [await anext(pieces), await anext(pieces)] == [KEEPALIVE_COMMENT] * 2
    may_end.set()
    rest = [piece async for piece in pieces if piece != KEEPALIVE_COMMENT]
    assert len(rest) == 1
    assert isinstance(rest[0], bytes)
    assert event(rest[0].decode())["type"] == "transcript.text.done"


@pytest.mark.parametrize("error", [InferenceError("It failed."), ZeroDivisionError()])
async def test_an_error_before_any_news_is_raised(error: Exception) -> None:
    async def work(_: Callable[[Progress], None]) -> Transcript:
        raise error

    with pytest.raises(type(error)):
        await stream_text(a_request(), work, logprobs=False, heartbeat_s=60)


async def test_who_has_left_before_any_news_is_told_nothing() -> None:
    stopped = asyncio.Event()

    async def work(_: Callable[[Progress], None]) -> Transcript:
        try:
            return await asyncio.Event().wait() and Transcript((), (), 0)
        finally:
            stopped.set()

    left: Coroutine[Any, Any, object] = stream_text(
        a_request({"type": "http.disconnect"}), work, logprobs=False, heartbeat_s=60
    )
    with pytest.raises(ClientDisconnect):
        await left
    assert stopped.is_set()


async def test_who_leaves_before_the_first_byte_stops_the_work() -> None:
    stopped = asyncio.Event()

    async def work(tell: Callable[[Progress], None]) -> Transcript:
        tell(Progress((), (), 1.0))
        try:
            return await asyncio.Event().wait() and Transcript((), (), 0)
        finally:
            stopped.set()

    async def receive() -> AsgiMessage:
        return {"type": "http.disconnect"}

    async def send(_: AsgiMessage) -> None:
        await asyncio.Event().wait()

    answer = await stream_text(a_request(), work, logprobs=False, heartbeat_s=60)
    await answer({"type": "http"}, receive, send)
    assert stopped.is_set()
