"""A client is greeted before there is anything that transcribes."""

import asyncio
from pathlib import Path

from mcp import Client

from parakeet_service.domain.errors import DecoderUnavailableError
from parakeet_service.entrypoints.mcp.here import ServiceTranscriber
from parakeet_service.entrypoints.mcp.late import LateTranscriber
from parakeet_service.entrypoints.mcp.recordings import Recordings
from parakeet_service.entrypoints.mcp.tools import make_server
from tests.fakes import FakeWebClient
from tests.unit.entrypoints.world import pcm, started


def client_before(late: LateTranscriber, directory: Path) -> Client:
    (directory / "a.wav").write_bytes(pcm(1.2))
    server = make_server(late, Recordings(root=directory, web=FakeWebClient(), longest_bytes=1 << 20))
    server.middleware.append(late.watch)
    return Client(server)


async def test_calls_wait_for_the_service_and_the_handshake_does_not(tmp_path: Path) -> None:
    late = LateTranscriber()
    async with client_before(late, tmp_path) as client:
        assert len((await client.list_tools()).tools) == 2
        status = await client.call_tool("server_status", {})
        assert status.structured_content == {"status": "The service is starting."}
        calling = asyncio.create_task(client.call_tool("transcribe", {"path": "a.wav"}))
        gone = asyncio.create_task(client.call_tool("transcribe", {"path": "a.wav"}))
        # What is wrong with the call itself is said at once.
        assert (await client.call_tool("transcribe", {"path": "missing.wav"})).is_error
        assert not calling.done()
        # One that leaves takes nothing from the others.
        gone.cancel()
        await asyncio.wait((gone,))
        late.come(ServiceTranscriber((await started()).service))
        answer = await calling
        assert answer.structured_content is not None
        assert answer.structured_content["text"] == "This text comes"
        status = await client.call_tool("server_status", {})
        assert status.structured_content == {"status": "ready: scripted"}


async def test_the_service_is_wanted_once_a_client_has_been_greeted(tmp_path: Path) -> None:
    late = LateTranscriber()
    async with client_before(late, tmp_path) as client:
        assert not late.wanted.is_set()
        await client.list_tools()
        assert late.wanted.is_set()


async def test_calls_are_told_why_there_is_none(tmp_path: Path) -> None:
    late = LateTranscriber()
    async with client_before(late, tmp_path) as client:
        late.fail(DecoderUnavailableError("There is no ffmpeg."))
        for tool, arguments in (("transcribe", {"path": "a.wav"}), ("server_status", {})):
            answer = await client.call_tool(tool, arguments)
            assert answer.is_error
            assert "There is no ffmpeg. (decoder_unavailable)" in str(answer.content[0])
