"""Deepgram's protocol by its official SDK, on a real server with the real model."""

import asyncio
import io
import json
import random
import re
import string
import sys
import wave
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast
from urllib.parse import quote

import httpx
import httpx2
import numpy as np
import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.errors import BadRequestError
from deepgram.listen.v1.socket_client import AsyncV1SocketClient
from deepgram.listen.v1.types import (
    ListenV1Configure,
    ListenV1ConfigureSuccess,
    ListenV1Error,
    ListenV1Finalize,
    ListenV1Metadata,
    ListenV1Results,
    ListenV1SpeechStarted,
    ListenV1UtteranceEnd,
)
from deepgram.types import ListenV1Response
from pydantic import BaseModel
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from parakeet_service.domain.audio import Encoding, PcmReader
from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE, Server, started, wait_until_ok

KEY = "s3cret"
LIVE: dict[str, Any] = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16000}


@pytest.fixture(scope="module")
def server(shared_server: SharedServer) -> tuple[Server, str]:
    return shared_server(API_KEYS=f"alice:{KEY}", AUDIO_RATE_LIMIT="1000000/hour")


@pytest.fixture(scope="module")
def url(server: tuple[Server, str]) -> str:
    return server[1]


@pytest.fixture(scope="module")
def text(url: str) -> str:
    """What our own route reads in the recording."""
    answer = httpx2.post(
        f"{url}/transcribe",
        files={"file": SAMPLE.read_bytes()},
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
        timeout=600,
    )
    return str(answer.json()["text"])


def samples() -> bytes:
    with wave.open(str(SAMPLE)) as file:
        return bytes(file.readframes(file.getnframes()))


def environment_of(url: str) -> DeepgramClientEnvironment:
    sockets = url.replace("http", "ws")
    return DeepgramClientEnvironment(base=url, production=sockets, agent=sockets, agent_rest=url)


@asynccontextmanager
async def client_of(url: str, key: str = KEY) -> AsyncGenerator[AsyncDeepgramClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=600) as plain:
        yield AsyncDeepgramClient(api_key=key, environment=environment_of(url), httpx_client=plain)


async def transcribe(url: str, audio: bytes, *, key: str = KEY, **query: Any) -> ListenV1Response:
    async with client_of(url, key) as client:
        answer = await client.listen.v1.media.transcribe_file(request=audio, **query)
    assert isinstance(answer, ListenV1Response)
    ListenV1Response.model_validate(answer.model_dump(exclude_none=True))
    return answer


@asynccontextmanager
async def connected(url: str, **query: Any) -> AsyncGenerator[AsyncV1SocketClient]:
    asked = {name: value for name, value in {**LIVE, **query}.items() if value is not None}
    async with client_of(url) as client, client.listen.v1.connect(**asked) as socket:
        yield socket


async def hear(socket: AsyncV1SocketClient) -> list[Any]:
    """All messages until the server closes; each is checked against the type that the SDK has taken it for."""
    messages: list[Any] = []
    async for message in socket:
        assert isinstance(message, BaseModel), message
        type(message).model_validate(message.model_dump(exclude_none=True))
        messages.append(message)
    return messages


async def hear_to_the_end(socket: AsyncV1SocketClient) -> tuple[list[Any], int, str]:
    """All messages until the server closes with an error, and its code and reason."""
    messages: list[Any] = []
    try:
        while True:
            messages.append(await socket.recv())
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            raise
        return messages, closed.rcvd.code, closed.rcvd.reason


async def talk(url: str, audio: bytes, *, piece: int = 3200, **query: Any) -> list[Any]:
    async with connected(url, **query) as socket:
        hearing = asyncio.create_task(hear(socket))
        for at in range(0, len(audio), piece):
            await socket.send_media(audio[at : at + piece])
        await socket.send_close_stream()
        return await hearing


def text_of(messages: Sequence[Any]) -> str:
    finals = [one for one in messages if isinstance(one, ListenV1Results) and one.is_final]
    return " ".join(filter(None, (one.channel.alternatives[0].transcript for one in finals)))


async def test_a_recording_reads_as_it_does_elsewhere(url: str, text: str) -> None:
    answer = await transcribe(url, SAMPLE.read_bytes(), model="nova-3", smart_format=True, utterances=True, tag=["one"])
    (channel,) = answer.results.channels
    (alternative,) = channel.alternatives or []
    assert alternative.transcript == text
    assert " ".join(word.model_dump()["punctuated_word"] for word in alternative.words or []) == text
    assert alternative.paragraphs is not None
    assert " ".join((alternative.paragraphs.transcript or "").split()) == text
    assert " ".join(one.transcript or "" for one in answer.results.utterances or []) == text
    assert answer.metadata.duration == pytest.approx(14.394, abs=0.01)
    assert answer.metadata.tags == ["one"]


def turns() -> tuple[bytes, bytes]:
    """Two channels: the recording on the first one, and then on the other one."""
    spoken = samples()
    return spoken + bytes(len(spoken)), bytes(len(spoken)) + spoken


def in_turn() -> bytes:
    """A WAVE file of the two."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writing:
        writing.setnchannels(2)
        writing.setsampwidth(2)
        writing.setframerate(16_000)
        writing.writeframes(interleaved(*turns()))
    return file.getvalue()


@pytest.mark.parametrize("raw", [False, True])
async def test_channels_are_told_apart(url: str, text: str, raw: bool) -> None:  # noqa: FBT001
    audio = in_turn()
    described = {"encoding": "linear16", "sample_rate": 16000, "channels": 2} if raw else {}
    if raw:
        # The SDK does not have all of these for recordings, and takes them as further ones.
        answer = await transcribe(
            url,
            audio[44:],
            multichannel=True,
            utterances=True,
            request_options={"additional_query_parameters": described},
        )
    else:
        answer = await transcribe(url, audio, multichannel=True, utterances=True)
    assert answer.metadata.channels == 2
    mono = {"additional_query_parameters": {"encoding": "linear16", "sample_rate": 16000}}
    alone = [(await transcribe(url, one, request_options=mono)).results.channels for one in turns()]
    texts = [(channel.alternatives or [])[0].transcript for (channel,) in alone]
    assert [(one.alternatives or [])[0].transcript for one in answer.results.channels] == texts
    assert texts[0] == text
    utterances = answer.results.utterances or []
    assert {one.channel for one in utterances} == {0, 1}
    halves = [" ".join(one.transcript or "" for one in utterances if one.channel == number) for number in (0, 1)]
    assert halves == texts
    assert [one.start for one in utterances] == sorted(one.start or 0 for one in utterances)


def test_the_synchronous_client_reads_the_same(url: str, text: str) -> None:
    with httpx.Client(trust_env=False, timeout=600) as plain:
        client = DeepgramClient(api_key=KEY, environment=environment_of(url), httpx_client=plain)
        answer = client.listen.v1.media.transcribe_file(
            request=samples(),
            model="nova-3",
            encoding="linear16",
            request_options={"additional_query_parameters": {"sample_rate": "16000"}},
        )
    assert isinstance(answer, ListenV1Response)
    assert (answer.results.channels[0].alternatives or [])[0].transcript == text


async def test_a_recording_may_be_named_by_its_url(shared_server: SharedServer, text: str) -> None:
    _, url = shared_server(URL_ALLOWED_HOSTS="127.0.0.1", URL_ALLOW_HTTP="true")
    handler = partial(SimpleHTTPRequestHandler, directory=str(SAMPLE.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as files, in_a_thread(files):
        async with client_of(url) as client:
            named = f"http://127.0.0.1:{files.server_port}/{SAMPLE.name}"
            answer = await client.listen.v1.media.transcribe_url(url=named, model="nova-3")
            with pytest.raises(BadRequestError) as refused:
                await client.listen.v1.media.transcribe_url(url="http://169.254.169.254/latest", model="nova-3")
    assert isinstance(answer, ListenV1Response)
    assert (answer.results.channels[0].alternatives or [])[0].transcript == text
    assert refused.value.body["err_code"] == "Bad Request"


@contextmanager
def in_a_thread(files: ThreadingHTTPServer) -> Generator[None]:
    serving = Thread(target=files.serve_forever)
    serving.start()
    try:
        yield
    finally:
        files.shutdown()
        serving.join()


async def test_errors_are_those_that_the_sdk_knows(url: str) -> None:
    with pytest.raises(BadRequestError) as bad:
        await transcribe(url, b"no audio", model="nova-3")
    assert bad.value.body["err_code"] == "Bad Request"
    with pytest.raises(BadRequestError) as refused:
        await transcribe(url, SAMPLE.read_bytes(), redact="pci")
    assert "redact" in refused.value.body["err_msg"]
    with pytest.raises(ApiError) as unknown:
        await transcribe(url, SAMPLE.read_bytes(), key="wrong")
    assert unknown.value.status_code == 401
    with pytest.raises(ApiError) as closed:
        async with client_of(url, "wrong") as client, client.listen.v1.connect(**LIVE):
            pass
    assert closed.value.status_code == 401


async def test_live_audio_reads_as_a_recording_does(url: str, text: str) -> None:
    messages = await talk(url, samples())
    assert text_of(messages) == text
    assert isinstance(messages[-1], ListenV1Metadata)
    assert messages[-1].duration == pytest.approx(14.394, abs=0.01)


async def test_short_pauses_end_what_is_said_and_cost_no_word(url: str, text: str) -> None:
    messages = await talk(url, samples(), endpointing=10)
    finals = [one for one in messages if isinstance(one, ListenV1Results)]
    assert len([one for one in finals if one.speech_final]) > 2
    assert bare(text_of(messages)) == bare(text)


def bare(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text).lower().split()


async def test_a_wave_file_needs_no_description(url: str, text: str) -> None:
    messages = await talk(url, SAMPLE.read_bytes(), encoding=None, sample_rate=None)
    assert text_of(messages) == text


async def test_spans_follow_each_other_and_events_are_told(url: str, text: str) -> None:
    audio = samples() + bytes(3 * 32_000) + samples()[: 4 * 32_000]
    messages = await talk(url, audio, interim_results=True, vad_events=True, utterance_end_ms=1000, punctuate=True)
    assert {type(one) for one in messages} == {  # pyright: ignore[reportUnknownVariableType]
        ListenV1Results,
        ListenV1SpeechStarted,
        ListenV1UtteranceEnd,
        ListenV1Metadata,
    }
    results = [one for one in messages if isinstance(one, ListenV1Results)]
    finals = [one for one in results if one.is_final]
    at = 0.0
    for one in finals:
        assert one.start == pytest.approx(at, abs=0.002)
        at = one.start + one.duration
        assert all(
            one.start - 0.001 <= word.start <= word.end <= at + 0.001 for word in one.channel.alternatives[0].words
        )
    assert all(one.speech_final for one in finals[:-1])
    assert text_of(messages).startswith(text)
    words = text_of(messages)[len(text) :].split()
    assert words[:3] == text.split()[:3]


async def test_text_is_told_before_it_is_final(url: str) -> None:
    async with connected(url, interim_results=True) as socket:
        # No pause, and no end: what comes back is interim.
        await socket.send_media(samples()[: 3 * 32_000])
        interim = await socket.recv()
        await socket.send_close_stream()
        later = await hear(socket)
    assert isinstance(interim, ListenV1Results)
    assert not interim.is_final
    assert interim.channel.alternatives[0].words
    assert text_of(later)


async def test_the_events_of_the_sdk_are_raised(url: str, text: str) -> None:
    heard: list[Any] = []
    closed = asyncio.Event()
    async with connected(url) as socket:
        socket.on(EventType.MESSAGE, heard.append)
        socket.on(EventType.ERROR, heard.append)
        socket.on(EventType.CLOSE, lambda _: closed.set())
        listening = asyncio.create_task(cast("Any", socket).start_listening())
        await socket.send_media(samples())
        await socket.send_finalize()
        await socket.send_keep_alive()
        await socket.send_close_stream()
        await listening
    assert closed.is_set()
    assert text_of(heard) == text
    (answer,) = [one for one in heard if isinstance(one, ListenV1Results) and one.from_finalize]
    assert answer.is_final


async def test_terms_can_be_changed(url: str) -> None:
    async with connected(url, keyterm=["Gutenberg", "New York"]) as socket:
        await socket.send_configure(ListenV1Configure(type="Configure", keyterms=["committee"]))
        message = await socket.recv()
        assert isinstance(message, ListenV1ConfigureSuccess)
        assert message.keyterms == ["committee"]
        await socket.send_media(samples()[: 5 * 32_000])
        await socket.send_close_stream()
        messages = await hear(socket)
    assert "century" in text_of(messages)


def interleaved(*channels: bytes) -> bytes:
    """Shorter ones are followed by silence."""
    most = max(map(len, channels))
    return np.stack([np.frombuffer(one.ljust(most, b"\0"), "<i2") for one in channels], axis=1).tobytes()


def a_call() -> tuple[bytes, bytes]:
    """Two people: the second one begins later, and is a little softer."""
    spoken = samples()
    softer = (np.frombuffer(spoken, "<i2") * 0.7).astype("<i2").tobytes()
    return spoken + bytes(3 * 32_000), bytes(2 * 32_000) + softer[5 * 32_000 :] + bytes(6 * 32_000)


def on_channel(messages: Sequence[Any], place: list[int]) -> list[Any]:
    """What is told of a channel, all of it by the SDK's types."""
    results = [one for one in messages if isinstance(one, ListenV1Results) and one.channel_index == place]
    others = [one for one in messages if isinstance(one, ListenV1SpeechStarted | ListenV1UtteranceEnd)]
    return [*results, *(one for one in others if one.channel == place)]


@pytest.mark.parametrize(
    ("encoding", "written"), [("linear16", np.int16), ("linear32", np.float32), ("mulaw", np.uint8), ("alaw", np.uint8)]
)
async def test_live_channels_read_as_each_of_them_alone(url: str, encoding: str, written: type[np.generic]) -> None:
    first, second = (as_encoded(one, encoding) for one in a_call())
    both = np.stack([np.frombuffer(one, written) for one in (first, second)], axis=1).tobytes()
    alone = [text_of(await talk(url, one, encoding=encoding)) for one in (first, second)]
    messages = await talk(url, both, piece=6401, encoding=encoding, multichannel=True, channels=2)
    assert [text_of(on_channel(messages, [number, 2])) for number in (0, 1)] == alone
    assert all(alone)
    assert len(set(alone)) == 2
    assert isinstance(messages[-1], ListenV1Metadata)
    assert messages[-1].channels == 2
    assert messages[-1].duration == pytest.approx(17.394, abs=0.01)


def as_encoded(pcm: bytes, encoding: str) -> bytes:
    values = np.frombuffer(pcm, "<i2")
    if encoding == "linear16":
        return pcm
    if encoding == "linear32":
        return (values / np.float32(32768)).astype("<f4").tobytes()
    # The code of each sample is that of the nearest value in the decoder's table.
    table = PcmReader({"mulaw": Encoding.MULAW, "alaw": Encoding.ALAW}[encoding]).read(bytes(range(256)))
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    return order.astype(np.uint8)[np.searchsorted(edges, values / np.float32(32768))].tobytes()


async def test_events_of_live_channels_say_their_channel(url: str) -> None:
    first, second = a_call()
    messages = await talk(
        url,
        interleaved(first, second, b""),
        multichannel=True,
        channels=3,
        interim_results=True,
        vad_events=True,
        utterance_end_ms=1000,
    )
    for number in (0, 1):
        mine = on_channel(messages, [number, 3])
        assert {type(one) for one in mine} == {ListenV1Results, ListenV1SpeechStarted, ListenV1UtteranceEnd}  # pyright: ignore[reportUnknownVariableType]
        at = 0.0
        for one in mine:
            if isinstance(one, ListenV1Results) and one.is_final:
                assert one.start == pytest.approx(at, abs=0.002)
                at = one.start + one.duration
    assert on_channel(messages, [2, 3]) == []


async def test_a_wave_file_of_two_channels_may_be_live(url: str) -> None:
    alone = [text_of(await talk(url, one)) for one in turns()]
    messages = await talk(url, in_turn(), multichannel=True, encoding=None, sample_rate=None)
    assert [text_of(on_channel(messages, [number, 2])) for number in (0, 1)] == alone


async def test_every_channel_answers_a_finalize(url: str) -> None:
    async with connected(url, multichannel=True, channels=2) as socket:
        await socket.send_media(interleaved(*(one[: 6 * 32_000] for one in a_call())))
        await socket.send_finalize()
        answers = [await socket.recv(), await socket.recv()]
        await socket.send_finalize(ListenV1Finalize.model_validate({"type": "Finalize", "channel": 1}))
        answers.append(await socket.recv())
        await socket.send_keep_alive()
        await socket.send_close_stream()
        last = await hear(socket)
    finals = [one for one in answers if isinstance(one, ListenV1Results) and one.is_final and one.from_finalize]
    assert len(finals) == 3
    assert sorted(one.channel_index for one in finals[:2]) == [[0, 2], [1, 2]]
    assert finals[2].channel_index == [1, 2]
    assert [type(one) for one in last] == [ListenV1Metadata]


async def test_live_channels_are_bounded(url: str) -> None:
    with pytest.raises(ApiError) as refused:
        async with connected(url, multichannel=True, channels=17):
            pass
    assert refused.value.status_code == 400


def metrics(url: str, name: str) -> float:
    page = httpx2.get(f"{url}/metrics", headers={"authorization": f"Bearer {KEY}"}, trust_env=False).text
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(value)


async def test_audio_is_counted(url: str) -> None:
    sources = [f'parakeet_audio_seconds_total{{source="{source}"}}' for source in ("live", "file")]
    before = [metrics(url, source) for source in sources]
    await talk(url, samples()[: 2 * 32_000])
    await transcribe(url, SAMPLE.read_bytes())
    after = [metrics(url, source) for source in sources]
    assert [now - then for now, then in zip(after, before, strict=True)] == pytest.approx([2, 14.394], abs=0.01)
    await talk(url, interleaved(samples()[: 2 * 32_000], b""), multichannel=True, channels=2)
    # The length of the session, as of recordings.
    assert metrics(url, sources[0]) - after[0] == pytest.approx(2, abs=0.01)
    assert metrics(url, 'parakeet_websocket_session_duration_seconds_count{code="1000",route="/v1/listen"}') >= 1


@pytest.mark.parametrize("channels", ["", "&multichannel=true&channels=3"])
async def test_rude_clients_leave_nothing(url: str, channels: str) -> None:
    socket_url = url.replace("http", "ws") + f"/v1/listen?encoding=linear16&sample_rate=16000{channels}"
    for nth in range(40):
        websocket = await connect(
            socket_url, additional_headers={"authorization": f"Token {KEY}"}, ping_timeout=None, proxy=None
        )
        for _ in range(nth % 4):
            await websocket.send(samples()[: 32_000 * (nth % 3)])
        if nth % 2:
            await websocket.send('{"type":"Finalize"}')
        websocket.transport.abort()
    async with asyncio.timeout(60):
        while metrics(url, "parakeet_live_streams"):
            await asyncio.sleep(0.1)


def mutated(chance: random.Random, seeds: Sequence[str]) -> str | bytes:
    """A message that is nearly one."""
    text = list(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text[at:at] = chance.choice(string.printable)
            case 1:
                del text[at : at + chance.randint(1, 8)]
            case 2:
                text[at:at] = chance.choice(seeds)
            case _:
                text[at:at] = chance.choice(["null", "-1", "1e999", "\\u0000", "é", "[[[[", '"', "true"])
    return chance.randbytes(chance.randint(1, 3000)) if chance.random() < 0.1 else "".join(text)


SEEDS = [
    '{"type":"KeepAlive"}',
    '{"type":"Finalize","channel":0}',
    '{"type":"Configure","keyterms":[],"features":{"punctuate":false}}',
    '{"type":"Configure","keyterms":["Kowalski","New York"],"features":{"punctuate":true,"numerals":true}}',
]


@pytest.mark.parametrize("messages", [400, pytest.param(2000, marks=pytest.mark.soak)])
async def test_mutated_requests_leave_no_trace(server: tuple[Server, str], messages: int) -> None:
    running, url = server
    chance = random.Random(messages)
    lines = len(running.lines)
    whole = in_turn()
    seeds = [
        "multichannel=true&utterances=true&smart_format=true",
        "multichannel=true&encoding=linear16&sample_rate=16000&channels=2&punctuate=false",
        "encoding=mulaw&channels=32&multichannel=true&utt_split=0.1",
        "keyterm=a&keyterm=b&keywords=c:2&detect_language=true&tag=x",
    ]
    statuses = set[int]()
    async with httpx2.AsyncClient(headers={"authorization": f"Token {KEY}"}, trust_env=False, timeout=600) as client:
        for _ in range(messages):
            query = mutated(chance, seeds)
            begin = chance.randrange(len(whole)) if chance.random() < 0.5 else 0
            damaged = bytearray(whole[begin : begin + chance.randint(0, 20_000)])
            for _ in range(chance.randint(0, 5)):
                if damaged:
                    damaged[chance.randrange(min(len(damaged), 60))] = chance.randrange(256)
            written = query if isinstance(query, str) else query.decode("latin-1")
            answer = await client.post(f"{url}/v1/listen?{quote(written, safe='&=')}", content=bytes(damaged))
            statuses.add(answer.status_code)
            if answer.status_code == 200:
                ListenV1Response.model_validate(answer.json())
            else:
                assert answer.json()["err_msg"]
    assert {200, 400} <= statuses <= {200, 400, 413}
    wait_until_ok(f"{url}/readyz")
    assert not [line for line in running.lines[lines:] if '"level": "error"' in line or "Traceback" in line]


@pytest.mark.parametrize("messages", [400, pytest.param(2000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("channels", ["", "&multichannel=true&channels=2"])
async def test_mutated_messages_leave_no_trace(server: tuple[Server, str], messages: int, channels: str) -> None:
    running, url = server
    chance = random.Random(messages)
    lines = len(running.lines)
    said, told = 0, set[str]()
    target = (
        url.replace("http", "ws") + f"/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true{channels}"
    )
    codes: set[int] = set()
    while said < messages:
        async with connect(
            target, additional_headers={"authorization": f"Token {KEY}"}, ping_timeout=None, proxy=None
        ) as websocket:
            with suppress(ConnectionClosed):
                await websocket.send('{"type":"Finalize"}')
                for _ in range(100):
                    said += 1
                    await websocket.send(mutated(chance, SEEDS))
                await websocket.send('{"type":"CloseStream"}')
                async for message in websocket:
                    told.add(json.loads(message)["type"])
        codes.add(websocket.close_code or 0)
    assert told == {"Results", "Metadata", "Error", "ConfigureSuccess", "ConfigureFailure"}
    assert codes <= {1000, 1008}
    wait_until_ok(f"{url}/readyz")
    assert not [line for line in running.lines[lines:] if '"level": "error"' in line or "Traceback" in line]


@pytest.mark.parametrize("channels", [1, 3])
async def test_sigterm_flushes(tmp_path: Path, channels: int) -> None:
    command = (sys.executable, "-m", "parakeet_service", "serve", "--port", "0")
    with started(command, cwd=tmp_path, MODEL_ID="embedded", LOG_FORMAT="json") as server:
        url = server.wait_for_line("Listening on ")
        wait_until_ok(f"{url}/readyz")
        async with connected(url, multichannel=True, channels=channels) as socket:
            await socket.send_media(interleaved(*[samples()[: 4 * 32_000]] * channels))
            await asyncio.sleep(0.2)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            messages, code, _ = await hear_to_the_end(socket)
        assert await stopping == 0
    assert code == 1001
    for number in range(channels):
        assert "century" in text_of(on_channel(messages, [number, channels]))
    assert isinstance(messages[-1], ListenV1Metadata)


@pytest.mark.parametrize("channels", [1, 2])
async def test_silence_of_a_client_is_net_0001(url: str, channels: int) -> None:
    async with connected(url, multichannel=True, channels=channels) as socket:
        await socket.send_media(interleaved(*[samples()[:32_000]] * channels))
        messages, code, reason = await hear_to_the_end(socket)
    assert (code, reason[:8]) == (1011, "NET-0001")
    assert isinstance(messages[-1], ListenV1Error)
