"""whisper-asr-webservice's routes on the real model: what Bazarr, Speakr and a shell send."""

import wave

import httpx2
import pytest

from tests.conftest import SharedServer
from tests.integration.processes import SAMPLE


@pytest.fixture(scope="module")
def url(shared_server: SharedServer) -> str:
    return shared_server()[1]


def post(url: str, file: bytes, **query: str) -> httpx2.Response:
    answer = httpx2.post(url, params=query, files={"audio_file": ("talk.wav", file)}, trust_env=False, timeout=600)
    assert answer.status_code == 200, answer.text
    return answer


def test_text_is_that_of_our_own_route(url: str) -> None:
    own = httpx2.post(f"{url}/transcribe", files={"file": SAMPLE.read_bytes()}, trust_env=False).json()["text"]
    assert " ".join(post(f"{url}/asr", SAMPLE.read_bytes()).text.split()) == own
    assert post(f"{url}/asr", SAMPLE.read_bytes(), output="json").json()["text"] == own


def test_bazarr_gets_captions_of_raw_audio(url: str) -> None:
    with wave.open(str(SAMPLE)) as file:
        raw = file.readframes(file.getnframes())
    asked = {"encode": "false", "video_file": "/films/A film.mkv"}
    language = post(f"{url}/detect-language", raw, **asked).json()
    assert language["language_code"] == "en"
    captions = post(f"{url}/asr", raw, task="transcribe", language="en", output="srt", **asked)
    assert captions.text == post(f"{url}/asr", SAMPLE.read_bytes(), output="srt").text
    assert captions.text.startswith("1\n00:00:0")


def test_speakr_gets_segments_with_times(url: str) -> None:
    body = post(f"{url}/asr", SAMPLE.read_bytes(), output="json", encode="true", word_timestamps="true").json()
    ends = [segment["end"] for segment in body["segments"]]
    assert ends == sorted(ends)
    assert all(word["word"].startswith(" ") for segment in body["segments"] for word in segment["words"])
