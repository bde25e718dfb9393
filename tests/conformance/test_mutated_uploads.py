"""Whatever is uploaded, there is an answer, it is one that the caller can read, and nothing is left behind."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import httpx2
import psutil
import pytest

from tests.conformance.calls import SPEECH
from tests.conformance.serving import Served
from tests.conformance.test_clients import curl_form
from tests.integration.recordings import recording

_AT_ONCE = 3
_FORMATS = (
    "mp3",
    "m4a, index first",
    "m4a in fragments",
    "flac",
    "ogg opus",
    "webm",
    "mu-law wav of 8 kHz",
    "mp4 video",
)
_ANSWERS = {200, 400, 404, 413, 415}


def flipped(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 4, 40))):
        # The heads of files are where their numbers stand.
        at = dice.randrange(min(len(data), dice.choice((64, 1024, len(data)))))
        data[at] ^= 1 << dice.randrange(8)


def cut_short(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(len(data)) :]


def cut_out(data: bytearray, dice: random.Random) -> None:
    begin = dice.randrange(len(data))
    del data[begin : begin + dice.choice((1, 16, 4096))]


def doubled(data: bytearray, dice: random.Random) -> None:
    begin = dice.randrange(len(data))
    data[begin:begin] = data[begin : begin + dice.choice((1, 16, 4096))]


def overwritten(data: bytearray, dice: random.Random) -> None:
    begin = dice.randrange(len(data))
    piece = dice.choice((b"\xff" * 8, b"\0" * 8, b"RIFF", b"OggS", b"#EXTM3U\n", dice.randbytes(64)))
    data[begin : begin + len(piece)] = piece


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flipped, cut_short, cut_out, doubled, overwritten)


def upload(number: int) -> tuple[bytes, bytes]:
    """The body of the request of that number, and its boundary; in every third one the form itself is damaged."""
    dice = random.Random(number)
    name = dice.choice(("", *_FORMATS))
    data = bytearray(recording(name) if name else SPEECH)
    fields = dict(dice.sample((("response_format", "verbose_json"), ("language", "en"), ("stream", "true")), 1))
    whole = number % 3 == 0
    if not whole:
        dice.choice(MUTATIONS)(data, dice)
    body, boundary = curl_form(bytes(data), model="whisper-1", **fields)
    if whole:
        form = bytearray(body)
        dice.choice(MUTATIONS)(form, dice)
        body = bytes(form)
    return body, boundary


def programs() -> list[str]:
    return [child.name() for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]


# Starlette leaves the file of a form that it cannot parse to the garbage collector, which closes it.
@pytest.mark.filterwarnings("ignore:.*SpooledTemporaryFile.*:pytest.PytestUnraisableExceptionWarning")
# Each number is the same upload everywhere.
@pytest.mark.parametrize("uploads", [80, pytest.param(5000, marks=pytest.mark.soak)])
async def test_damaged_uploads(service: Served, uploads: int) -> None:
    statuses = Counter[int]()
    numbers = iter(range(uploads))

    async def send(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            body, boundary = upload(number)
            headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
            answer = await client.post("/v1/audio/transcriptions", content=body, headers=headers)
            statuses[answer.status_code] += 1
            assert answer.status_code in _ANSWERS, (number, answer.status_code, answer.text)
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, number
                assert answer.json()["error"]["message"], number

    async with httpx2.AsyncClient(base_url=service.url, timeout=None) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(send(client))
        assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert statuses.total() == uploads
    # Neither are all of them harmless, nor are all refused.
    assert statuses[200]
    assert statuses[400] + statuses[415]
    assert not programs()
