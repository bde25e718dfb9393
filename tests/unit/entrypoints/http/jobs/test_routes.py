import asyncio
import json
from pathlib import Path

import pytest

from tests.fakes import NOT_AUDIO
from tests.unit.entrypoints.jobs_world import ended, jobs_world
from tests.unit.entrypoints.world import call, pcm, started

FILE = {"file": ("a.wav", pcm(3))}


async def test_a_job_gives_what_the_route_of_openai_gives(tmp_path: Path) -> None:
    async with jobs_world(tmp_path) as (world, _), world.client() as client:
        form = {"model": "whisper-1", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
        plain = await client.post("/v1/audio/transcriptions", files=FILE, data=form)
        submitted = await client.post("/v1/jobs", files=FILE, data={**form, "metadata": '{"a": 1}'})
        assert submitted.status_code == 202
        job = submitted.json()
        assert submitted.headers["location"] == f"/v1/jobs/{job['id']}"
        assert (job["object"], job["status"], job["metadata"]) == ("transcription.job", "queued", {"a": 1})
        done = await ended(client, job["id"])
        assert done["usage"] == {"type": "duration", "seconds": 3.0}
        result = f"/v1/jobs/{job['id']}/result"
        assert (await client.get(result)).json() == plain.json()
        srt = await client.get(result, params={"response_format": "srt"})
        assert srt.headers["content-type"].startswith("application/x-subrip")
        diarized = await client.get(result, params={"response_format": "diarized_json"})
        assert diarized.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize("style", ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"])
async def test_separate_channels_are_told_as_the_route_of_openai_tells_them(tmp_path: Path, style: str) -> None:
    async with jobs_world(tmp_path) as (world, _), world.client() as client:
        world.decoder.channels = 2
        file = {"file": ("call.wav", call())}
        form: dict[str, str | list[str]] = {"channels": "separate", "response_format": style}
        if style == "verbose_json":
            form["timestamp_granularities[]"] = ["word", "segment"]
        plain = await client.post("/v1/audio/transcriptions", files=file, data={**form, "model": "whisper-1"})
        assert plain.status_code == 200
        job = (await client.post("/v1/jobs", files=file, data=form)).json()
        assert (await ended(client, job["id"]))["status"] == "completed"
        result = await client.get(f"/v1/jobs/{job['id']}/result")
        assert (result.content, result.headers["content-type"]) == (plain.content, plain.headers["content-type"])
        other = (await client.post("/v1/jobs", files=file, data={"channels": "separate"})).json()
        await ended(client, other["id"])
        again = await client.get(f"/v1/jobs/{other['id']}/result", params={"response_format": style})
        assert again.content == plain.content


async def test_channels_that_cannot_be_given_are_named(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        refused = await client.post("/v1/jobs", files=FILE, data={"channels": "left"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "channels")
        speakers = await client.post("/v1/jobs", files=FILE, data={"response_format": "diarized_json"})
        assert (speakers.status_code, speakers.json()["error"]["param"]) == (400, "response_format")


async def test_a_url_is_submitted_as_json(tmp_path: Path) -> None:
    async with jobs_world(tmp_path) as (world, web), world.client() as client:
        web.recordings["https://example.com/a.wav"] = pcm(3)
        job = (await client.post("/v1/jobs", json={"file_url": "https://example.com/a.wav"})).json()
        assert (await ended(client, job["id"]))["status"] == "completed"
        refused = await client.post("/v1/jobs", json={"file_url": "https://10.0.0.1/a.wav"})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "url_not_allowed"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"json": {}}, "file"),
        ({"json": {"file_url": "https://example.com", "metadata": {"a": "x" * 20_000}}}, "metadata"),
        ({"json": {"file_url": "https://example.com", "track": 0}}, "track"),
        ({"json": []}, None),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, None),
        ({"content": b"x"}, None),
        ({"data": {"metadata": "{"}, "files": FILE}, "metadata"),
        ({"data": {"file": "a.wav"}, "files": {"other": b"x"}}, "file"),
        ({"data": {"language": "xx"}, "files": FILE}, "language"),
        ({"data": {"webhook_url": "https://example.com"}, "files": FILE}, "webhook_url"),
    ],
)
async def test_what_cannot_be_read_is_named(tmp_path: Path, request_: dict[str, object], param: str | None) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        answer = await client.post("/v1/jobs", **request_)  # type: ignore[arg-type]
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param
        assert (await client.get("/v1/jobs")).json()["data"] == []


async def test_what_has_no_effect_is_named(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        answer = await client.post("/v1/jobs", files=FILE, data={"prompt": "x", "stream": "true", "odd field": "1"})
        assert answer.headers["x-ignored-parameters"] == "prompt, stream, odd?field"


async def test_a_repeated_request_gives_the_same_job(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        key = {"idempotency-key": "k"}
        ids = {(await client.post("/v1/jobs", files=FILE, headers=key)).json()["id"] for _ in range(2)}
        assert len(ids) == 1
        other = await client.post("/v1/jobs", files={"file": ("a.wav", pcm(4))}, headers=key)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "idempotency_conflict"


async def test_a_caller_sees_its_own_jobs_whatever_the_order_of_the_keys(tmp_path: Path) -> None:
    bob, eve = {"authorization": "Bearer b"}, {"authorization": "Bearer e"}
    async with jobs_world(tmp_path, run=False, api_keys="b,e") as (world, _), world.client() as client:
        job_id = (await client.post("/v1/jobs", files=FILE, headers=bob)).json()["id"]
        assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 401
    async with jobs_world(tmp_path, run=False, api_keys="e,b") as (world, _), world.client() as client:
        assert (await client.get("/v1/jobs", headers=bob)).json()["last_id"] == job_id
        assert (await client.get("/v1/jobs", headers=eve)).json()["data"] == []
        for method, path in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", ""), ("POST", "/webhook")):
            answer = await client.request(method, f"/v1/jobs/{job_id}{path}", headers=eve)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "job_not_found"


async def test_the_configuration_tells_owners_apart_and_names_none(tmp_path: Path) -> None:
    async def owner(data: str, key: str | None, **settings: str) -> str:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        async with jobs_world(tmp_path / data, run=False, **settings) as (world, _), world.client() as client:
            body = (await client.get("/config", headers=headers)).json()
        assert all(secret not in str(body["jobs"]) for secret in ("bob", "eve", "anyone"))
        return str(body["jobs"]["owner"])

    bob = await owner("1", "s3cret-bob", api_keys="s3cret-bob,s3cret-eve")
    assert bob == await owner("1", "s3cret-bob", api_keys="s3cret-eve,s3cret-bob")
    named = await owner("1", "one", api_keys="bob:one")
    assert named == await owner("1", "two", api_keys="bob:two")
    others = {await owner("1", "s3cret-eve", api_keys="s3cret-bob,s3cret-eve"), named, await owner("1", None)}
    assert len(others | {bob}) == 4


async def test_jobs_are_listed_in_pages(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        ids = [(await client.post("/v1/jobs", files=FILE)).json()["id"] for _ in range(3)]
        first = (await client.get("/v1/jobs", params={"limit": 2})).json()
        assert ([job["id"] for job in first["data"]], first["has_more"]) == ([ids[2], ids[1]], True)
        rest = (await client.get("/v1/jobs", params={"limit": 2, "after": first["last_id"]})).json()
        assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[0]], False)


async def test_events_end_with_the_job_and_go_on_behind_an_event(tmp_path: Path) -> None:
    async with jobs_world(tmp_path) as (world, _), world.client() as client:
        job_id = (await client.post("/v1/jobs", files=FILE)).json()["id"]
        events = (await client.get(f"/v1/jobs/{job_id}/events")).text.strip().split("\n\n")
        assert [event.split("\n")[0] for event in events] == ["event: job.progress", "event: job.completed"]
        rest = await client.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": "1"})
        assert rest.text.strip().split("\n\n") == events[1:]
        data = next(line for line in events[1].split("\n") if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["id"] == job_id


async def test_a_job_is_cancelled_then_deleted(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        path = f"/v1/jobs/{(await client.post('/v1/jobs', files=FILE)).json()['id']}"
        early = await client.get(f"{path}/result")
        assert (early.status_code, early.json()["error"]["code"]) == (409, "job_conflict")
        assert (await client.delete(path)).json()["status"] == "cancelled"
        assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).status_code == 404


async def test_a_failed_job_says_why(tmp_path: Path) -> None:
    async with jobs_world(tmp_path) as (world, _), world.client() as client:
        job_id = (await client.post("/v1/jobs", files={"file": ("a", NOT_AUDIO)})).json()["id"]
        job = await ended(client, job_id)
        assert (job["status"], job["error"]["code"]) == ("failed", "undecodable_audio")


async def test_limits_are_told_by_their_status(tmp_path: Path) -> None:
    for setting, status in (("max_jobs", 503), ("max_jobs_per_key", 429)):
        async with jobs_world(tmp_path / setting, run=False, **{setting: 1}) as (world, _), world.client() as client:
            assert (await client.post("/v1/jobs", files=FILE)).status_code == 202
            refused = await client.post("/v1/jobs", files=FILE)
            assert refused.status_code == status
            assert int(refused.headers["retry-after"]) > 0
    async with jobs_world(tmp_path, run=False, max_job_bytes=1000) as (world, _), world.client() as client:
        assert (await client.post("/v1/jobs", files=FILE)).status_code == 507
        assert not list((tmp_path / "recordings").iterdir())


async def test_a_wait_and_a_stream_end_when_the_service_drains(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        job_id = (await client.post("/v1/jobs", files=FILE)).json()["id"]
        waiting = client.get(f"/v1/jobs/{job_id}", params={"wait": 60})
        tasks = [asyncio.create_task(waiting), asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))]
        while world.service.drain.running < 2:
            await asyncio.sleep(0)
        await world.service.drain.finish()
        answer, stream = await asyncio.gather(*tasks)
        assert answer.json()["status"] == "queued"
        assert "event:" not in stream.text


async def test_without_jobs_there_are_no_routes() -> None:
    world = await started()
    async with world.client() as client:
        assert (await client.get("/v1/jobs")).status_code == 404
        assert (await client.get("/config")).json()["jobs"] is None
        assert "/v1/jobs" not in (await client.get("/openapi.json")).json()["paths"]


async def test_the_document_describes_both_requests(tmp_path: Path) -> None:
    async with jobs_world(tmp_path, run=False) as (world, _), world.client() as client:
        document = (await client.get("/openapi.json")).json()
        content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
        assert set(content) == {"multipart/form-data", "application/json"}
        assert "keywords[]" in content["multipart/form-data"]["schema"]["properties"]
        assert document["components"]["schemas"]["JobBody"]["examples"]
        assert "ResponseFormat" in document["components"]["schemas"]
