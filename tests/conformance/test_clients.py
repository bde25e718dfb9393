"""The requests of clients that people use, as their source has them, and what they do with the answer."""

import asyncio
import json
import socket
from typing import Any

import httpx2
import openai
import pytest
from openai.types.audio import TranscriptionVerbose

from tests.conformance.calls import SPEECH, TEXT
from tests.conformance.serving import Served

WAV = ("audio.wav", SPEECH, "audio/wav")


def client_of(service: Served, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="sk-none", **more)


@pytest.mark.parametrize(("model", "language"), [("whisper-1", "english"), ("gpt-4o-mini-transcribe", "en")])
async def test_livekit(service: Served, model: str, language: str) -> None:
    # livekit-plugins-openai, STT._recognize_impl: verbose_json for whisper-1 alone, to learn the language.
    http_client = httpx2.AsyncClient(
        timeout=httpx2.Timeout(connect=15.0, read=5.0, write=5.0, pool=5.0), follow_redirects=True
    )
    async with client_of(service, max_retries=0, http_client=http_client) as client:
        create: Any = client.audio.transcriptions.create
        answer = await create(
            file=("file.wav", SPEECH, "audio/wav"),
            model=model,
            language="en",
            prompt=openai.NOT_GIVEN,
            response_format="verbose_json" if model == "whisper-1" else "json",
            timeout=httpx2.Timeout(30, connect=10),
        )
    heard = answer.language if isinstance(answer, TranscriptionVerbose) and answer.language else "en"
    assert (answer.text, heard) == (TEXT, language)


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
async def test_pipecat(service: Served, model: str) -> None:
    # pipecat, OpenAISTTService._transcribe with include_prob_metrics.
    metrics: dict[str, Any] = (
        {"response_format": "json", "include": ["logprobs"]}
        if model == "gpt-4o-transcribe"
        else {"response_format": "verbose_json"}
    )
    async with client_of(service) as client:
        create: Any = client.audio.transcriptions.create
        answer = await create(file=WAV, model=model, language="en", prompt="Names.", temperature=0.0, **metrics)
    assert answer.text == TEXT
    if model == "gpt-4o-transcribe":
        assert all(one.logprob < 0 for one in answer.logprobs)
    else:
        assert all(segment.avg_logprob < 0 for segment in answer.segments)


@pytest.mark.parametrize("stream", [True, False])
async def test_wyoming_openai(service: Served, *, stream: bool) -> None:
    # wyoming_openai, the proxy of Home Assistant: of a stream it reads the deltas alone.
    async with client_of(service) as client:
        create: Any = client.audio.transcriptions.create
        answer = await create(
            file=WAV,
            model="parakeet",
            language="en",
            prompt=openai.NOT_GIVEN,
            temperature=openai.NOT_GIVEN,
            response_format="json",
            stream=stream,
        )
        if stream:
            text = "".join([event.delta async for event in answer if event.type == "transcript.text.delta"])
        else:
            text = answer.text
    assert text == TEXT


async def test_open_webui(service: Served) -> None:
    # open-webui, routers/audio.py, transcribe: no content type, no format, and `error.message` of what fails.
    headers = {"Authorization": "Bearer sk-none"}
    url = f"{service.url}/v1/audio/transcriptions"
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            url, headers=headers, files={"file": ("5f0c.wav", SPEECH)}, data={"model": "whisper-1"}
        )
        failed = await client.post(url, headers=headers, files={"file": ("5f0c.wav", SPEECH)}, data={"model": "x"})
    assert answer.json()["text"] == TEXT
    assert failed.json()["error"].get("message", "").startswith("The model 'x' is not available")


def curl_form(data: bytes, **fields: str) -> tuple[bytes, bytes]:
    """The body of ``curl -F`` with a file of `data`, and its boundary."""
    boundary = b"------------------------d74496d66958873e"
    parts = [
        b'Content-Disposition: form-data; name="file"; filename="talk.wav"\r\nContent-Type: audio/wav\r\n\r\n' + data
    ]
    parts += [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()
    ]
    return b"".join(
        b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts
    ) + b"--" + boundary + b"--\r\n", boundary


async def curl(service: Served, **fields: str) -> tuple[bytes, bytes]:
    """What curl sends, byte by byte, and what it prints; large bodies wait for the server's leave."""
    body, boundary = curl_form(SPEECH, **fields)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, family=socket.AF_INET)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAuthorization: Bearer none\r\n"
        b"Content-Length: %d\r\nContent-Type: multipart/form-data; boundary=%s\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\n\r\n" % (service.port, len(body), boundary)
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    head = await reader.readuntil(b"\r\n\r\n")
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return head, rest


@pytest.mark.parametrize("response_format", ["text", "json", "srt"])
async def test_curl(service: Served, response_format: str) -> None:
    head, printed = await curl(service, model="whisper-1", response_format=response_format, language="en")
    assert head.startswith(b"HTTP/1.1 200 ")
    match response_format:
        case "json":
            assert json.loads(printed)["text"] == TEXT
        case "text":
            assert printed.decode() == TEXT + "\n"
        case _:
            assert printed.startswith(b"1\n00:00:00,000 --> ")


async def test_curl_reads_a_stream(service: Served) -> None:
    head, printed = await curl(service, model="gpt-4o-mini-transcribe", stream="true")
    assert b"text/event-stream" in head
    data = [line.strip().removeprefix(b"data: ") for line in printed.splitlines() if line.startswith(b"data: ")]
    assert "".join(json.loads(one).get("delta", "") for one in data) == TEXT
