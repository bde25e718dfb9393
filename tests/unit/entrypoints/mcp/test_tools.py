import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from parakeet_service.domain.errors import ServiceError
from parakeet_service.entrypoints.mcp.here import ServiceTranscriber
from parakeet_service.entrypoints.mcp.recordings import Recordings
from parakeet_service.entrypoints.mcp.tools import make_server
from tests.fakes import NOT_AUDIO, FakeWebClient
from tests.unit.entrypoints.world import World, pcm, started

URL = "https://example.com/a.wav"


def files(root: Path | None, *, longest_bytes: int = 1 << 20) -> Recordings:
    return Recordings(root=root, web=FakeWebClient(), longest_bytes=longest_bytes)


async def read(recordings: Recordings, *, path: str | None = None, url: str | None = None) -> bytes:
    async with recordings.open(path=path, url=url) as pieces:
        return b"".join([piece async for piece in pieces])


async def called(world: World, **arguments: Any) -> Any:
    recordings = Recordings(root=None, web=world.web, longest_bytes=1 << 20)
    server = make_server(ServiceTranscriber(world.service), recordings)
    async with Client(server) as client:
        return await client.call_tool("transcribe", arguments)


async def test_reads_files_below_the_root_by_either_form_of_path(tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    file = tmp_path / "talks" / "a.wav"
    file.write_bytes(b"abc")

    assert await read(files(tmp_path), path="talks/a.wav") == b"abc"
    assert await read(files(tmp_path), path=str(file)) == b"abc"
    assert await read(files(tmp_path), path="talks/../talks/a.wav") == b"abc"


@pytest.mark.parametrize("path", ["../secret", "link", "/etc/passwd", "", ".", "missing", "a\0b", "x" * 5000, "loop"])
async def test_reads_nothing_else_and_says_the_same_of_all(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")

    with pytest.raises(ServiceError, match="no such file below the directory"):
        await read(files(root), path=path)


async def test_refuses_large_files_and_any_file_without_a_root(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"abc")

    with pytest.raises(ServiceError, match="larger than 2 bytes"):
        await read(files(tmp_path, longest_bytes=2), path="a.wav")
    with pytest.raises(ServiceError, match="reads no files"):
        await read(files(None), path="a.wav")


async def test_who_leaves_while_a_file_is_opened_leaves_it_closed(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"abc")
    reading = asyncio.create_task(read(files(tmp_path), path="a.wav"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    # A file that is left open is complained of at its end, which fails the test.
    gc.collect()


async def test_wants_one_recording() -> None:
    with pytest.raises(ServiceError, match="either path or url"):
        await read(files(None))
    with pytest.raises(ServiceError, match="either path or url"):
        await read(files(None), path="a", url="b")


async def test_transcribes_a_url_in_each_format() -> None:
    world = await started()
    world.web.recordings[URL] = pcm(2.8)

    as_text = await called(world, url=URL)
    as_json = await called(world, url=URL, format="json", words=True)
    as_srt = await called(world, url=URL, format="srt")

    text = "This text comes from a script. Nobody"
    assert as_text.structured_content == {
        "text": text,
        "duration": 2.8,
        "segments": None,
        "words": None,
        "warnings": [],
    }
    assert as_json.structured_content["words"][0] == {"text": "This", "start": 0.0, "end": 0.3}
    assert [one["text"] for one in as_json.structured_content["segments"]] == [text[:-7], "Nobody"]
    assert as_srt.structured_content["text"].startswith("1\n00:00:00,000 --> ")
    assert world.web.open_now == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "https://127.0.0.1/"}, "url_not_allowed"),
        ({"url": URL, "format": "docx"}, "docx"),
        ({"url": 5}, "url"),
        ({}, "either path or url"),
        ({"url": "https://example.com/noise"}, "undecodable_audio"),
    ],
)
async def test_tells_the_assistant_what_is_wrong(arguments: dict[str, Any], says: str) -> None:
    world = await started()
    world.web.recordings["https://example.com/noise"] = NOT_AUDIO

    answer = await called(world, **arguments)

    assert answer.is_error
    assert says in answer.content[0].text


async def test_says_that_the_model_is_not_ready() -> None:
    world = World()
    world.web.recordings[URL] = pcm(1)

    answer = await called(world, url=URL)

    assert answer.is_error
    assert "model_not_ready" in answer.content[0].text
