"""A form in a charset that is slow to decode is refused before it is read."""

import pytest

from tests.unit.entrypoints.http.recordings.test_routes import form_body
from tests.unit.entrypoints.world import pcm, started


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", '"punycode"', "utf-7", "latin-1", "no-such", "a\\0", "utf-16"]
)
@pytest.mark.parametrize("path", ["/transcribe", "/v1/audio/transcriptions"])
async def test_other_charsets_are_refused(path: str, charset: str) -> None:
    world = await started()
    async with world.client() as client:
        headers = {"content-type": f"multipart/form-data; boundary=xyz; charset={charset}"}
        answer = await client.post(path, content=form_body(pcm(0.4)), headers=headers)
    assert answer.status_code == (422 if path == "/transcribe" else 400)
    assert "UTF-8" in answer.json()["error"]["message"]


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii"])
async def test_utf_8_is_not(charset: str) -> None:
    world = await started()
    async with world.client() as client:
        headers = {"content-type": f"multipart/form-data; charset={charset}; boundary=xyz"}
        answer = await client.post("/transcribe", content=form_body(pcm(0.4)), headers=headers)
    assert answer.json() == {"text": "This"}
