"""What was passed over in a recording, told in every answer; and the track that was asked for."""

import json

import httpx2
import pytest

from parakeet_service.domain.recording_warnings import DamagedAudio, FurtherTracks
from tests.unit.entrypoints.world import World, pcm, started

TRACKS = FurtherTracks(track=2, tracks=("aac, mono", "d\u00e9, aac, stereo"))
OPENAI = "/v1/audio/transcriptions"


async def damaged() -> World:
    world = await started()
    world.decoder.warnings += [TRACKS, DamagedAudio()]
    return world


async def post(world: World, path: str, **fields: str) -> httpx2.Response:
    async with world.client() as client:
        return await client.post(path, files={"file": ("a.wav", pcm(1.2))}, data={"model": "whisper-1", **fields})


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/transcribe", {}),
        ("/transcribe", {"include_timestamps": "true"}),
        (OPENAI, {}),
        (OPENAI, {"response_format": "verbose_json"}),
    ],
)
async def test_json_and_the_header_tell_them(path: str, fields: dict[str, str]) -> None:
    answer = await post(await damaged(), path, **fields)

    assert answer.json()["warnings"] == [TRACKS.message, DamagedAudio().message]
    ascii_only = TRACKS.message.replace("\u00e9", "?")
    assert answer.headers["x-warnings"] == f"{ascii_only} | {DamagedAudio().message}"


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
async def test_plain_answers_tell_them_in_the_header(response_format: str) -> None:
    answer = await post(await damaged(), OPENAI, response_format=response_format)

    assert "track 2 of 2" in answer.headers["x-warnings"]


@pytest.mark.parametrize("path", ["/transcribe", OPENAI])
async def test_the_last_event_of_a_stream_tells_them(path: str) -> None:
    answer = await post(await damaged(), path, stream="true")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]

    assert events[-1]["warnings"] == [TRACKS.message, DamagedAudio().message]


@pytest.mark.parametrize("path", ["/transcribe", OPENAI])
async def test_without_any_there_is_neither_list_nor_header(path: str) -> None:
    answer = await post(await started(), path)

    assert "warnings" not in answer.json()
    assert "x-warnings" not in answer.headers


@pytest.mark.parametrize("path", ["/transcribe", OPENAI, "/v1/audio/translations"])
async def test_the_track_that_was_asked_for_is_decoded(path: str) -> None:
    world = await started()
    assert (await post(world, path, track="2")).status_code == 200
    assert (await post(world, path)).status_code == 200
    assert (await post(world, path, track="0")).status_code in {400, 422}
    assert world.decoder.tracks == [2, None]


async def test_captions_are_cut_as_was_asked_for() -> None:
    answer = await post(
        await started(), OPENAI, response_format="srt", max_line_width="9", max_line_count="1", highlight_words="true"
    )

    assert "<u>This</u> text\n" in answer.text


@pytest.mark.parametrize(("name", "value"), [("max_line_width", "0"), ("min_cue_duration", "9"), ("min_gap", "x")])
async def test_a_caption_option_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    answer = await post(await started(), OPENAI, response_format="srt", **{name: value})

    assert answer.status_code == 400
    assert name in answer.json()["error"]["message"]
