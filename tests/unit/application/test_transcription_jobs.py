"""Jobs from their submission to their end, on SQLite and a scripted model."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parakeet_service.adapters.jobs.database import Database, sqlite_engine
from parakeet_service.adapters.jobs.recordings import FileRecordings
from parakeet_service.adapters.jobs.store import SqlJobStore
from parakeet_service.application.changes import Changes
from parakeet_service.application.checkpointed_model import CheckpointedModel
from parakeet_service.application.drain import Drain
from parakeet_service.application.job_runner import JobRunner, RunnerLimits
from parakeet_service.application.job_webhooks import RETRIES_S, JobWebhooks
from parakeet_service.application.ports.job_store import Admission, Claim, Ending, LeaseLostError, WindowKey
from parakeet_service.application.ports.speech_model import ModelDescription, StreamContext
from parakeet_service.application.ports.webhook_sender import WebhookFailedError
from parakeet_service.application.transcribe_file import FileLimits, Progress, TranscribeFile
from parakeet_service.application.transcription_jobs import Caller, TranscriptionJobs
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import (
    IdempotencyConflictError,
    InferenceError,
    InvalidRequestError,
    JobConflictError,
    JobNotFoundError,
    JobStorageError,
    ModelLoadError,
    OverloadedError,
    RateLimitError,
    StorageFullError,
    UrlNotAllowedError,
)
from parakeet_service.domain.jobs import Job, JobEvent, JobRequest, JobStatus, WebhookState, WebhookStatus
from parakeet_service.domain.transcript import Token
from parakeet_service.domain.vad import VadParams
from tests.fakes import NOT_AUDIO, FailingModel, FakeDecoder, FakeWebClient, SteppedModel
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import pcm

BOB = Caller("key bob", "key bob")
EVE = Caller("key eve")
_LIMITS = FileLimits(longest_unchunked_s=5, longest_s=60, window_s=5, overlap_s=1, timeout_s=0.001, windows_ahead=2)


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.windows = 0
        self.failures: list[BaseException] = []

    def job_submitted(self, job: Job) -> None:
        self.told.append(("submitted", job.id))

    def job_began(self, job: Job, *, attempt: int, known_windows: int) -> None:
        assert job.id
        assert attempt
        self.told.append(("began", known_windows))

    def window_read(self) -> None:
        self.windows += 1

    def job_ended(self, job: Job) -> None:
        self.told.append(("ended", job.status.value))

    def job_put_back(self, job: Job, *, reason: str) -> None:
        assert job.id
        self.told.append(("put back", reason))

    def failed_unexpectedly(self, doing: str, error: BaseException, *, job_id: str | None = None) -> None:
        self.told.append((doing, job_id))
        self.failures.append(error)

    def webhook_tried(self, *, job_id: str, webhook_id: str, attempt: int, failure: str | None, is_last: bool) -> None:
        assert job_id
        assert webhook_id
        self.told.append(("webhook", (attempt, failure, is_last)))

    def counted(self, jobs: dict[str, int], webhooks: dict[str, int]) -> None:
        self.told.append(("counted", (jobs, webhooks)))


class FullQuota:
    def __init__(self) -> None:
        self.charged: list[tuple[str, float]] = []

    async def admit(self, caller: str) -> None:
        """Everybody comes in."""

    async def charge(self, caller: str, audio_s: float) -> None:
        self.charged.append((caller, audio_s))
        raise RateLimitError("That was too much.")


class Server:
    """One server on the jobs of a directory."""

    def __init__(self, directory: Path, model: ScriptedModel, *, workers: int = 1, retention_s: float = 0.0) -> None:
        self.now = 1000.0
        self.model = model
        self.observer = Observer()
        self.quota = FullQuota()
        self.drain = Drain(grace_s=1)
        self.changes = Changes()
        self.decoder = FakeDecoder()
        self.web = FakeWebClient()
        self.web.recordings = {"https://example.com/hook": b"", "https://example.com/a.wav": pcm(3)}
        self.store = SqlJobStore(Database(sqlite_engine(directory / "jobs.db")), lease_s=3600, alone=True)
        self.recordings = FileRecordings(directory / "recordings")
        self.jobs = TranscriptionJobs(
            self.store,
            self.recordings,
            Admission(100, 3, 1 << 30),
            self.changes,
            self.observer,
            self.web,
            clock=lambda: self.now,
        )
        self.runner = JobRunner(
            TranscribeFile(model, self.decoder, _LIMITS),
            self.store,
            self.recordings,
            RunnerLimits(workers=workers, windows=2, lease_s=3600, retention_s=retention_s),
            self.changes,
            self.observer,
            self.drain,
            self.web,
            self.quota,
            clock=lambda: self.now,
        )

    async def ended(self, job: Job, caller: Caller = BOB) -> Job:
        while not (now := await self.jobs.find(caller, job.id)).status.is_final:
            await self.changes.wait(0.1)
        return now


@asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[Server]:
    await server.store.open()
    try:
        yield server
    finally:
        await server.store.aclose()


@asynccontextmanager
async def running(server: Server) -> AsyncGenerator[Server]:
    async with opened(server):
        await server.model.start()
        task = asyncio.create_task(server.runner.run())
        try:
            yield server
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_a_job_has_the_text_of_the_file_use_case(tmp_path: Path) -> None:
    async with running(Server(tmp_path, ScriptedModel())) as server:
        request = JobRequest(detection=None, metadata={"a": 1}, presentation={"b": 2})
        job = await server.jobs.submit(BOB, request, pieces(pcm(12), pcm(11)))
        assert job.status is JobStatus.QUEUED
        ended = await server.ended(job)
        plain = await replace(server.runner.transcribe_file, limits=replace(_LIMITS, timeout_s=60))(
            pieces(pcm(12), pcm(11))
        )
        assert await server.jobs.result(BOB, job.id) == (ended, plain)
        assert (ended.status, ended.duration_s, ended.done_s) == (JobStatus.COMPLETED, 23.0, 23.0)
        assert server.quota.charged == [("key bob", 23.0)]
        assert server.observer.windows == 6
        assert not list((tmp_path / "recordings").iterdir())
        news = [event async for event in server.jobs.events(BOB, job.id) if event]
        assert [event.type for event in news] == ["job.progress"] * 6 + ["job.completed"]
        told = [word["text"] for event in news[:-1] for word in event.data["words"]]
        assert " ".join([*told, news[-2].data["draft"]]).strip() == plain.text
        assert [one async for one in server.jobs.events(BOB, job.id, after=6)] == news[6:]
        assert [one async for one in server.jobs.events(BOB, job.id, after=news[-1].number)] == []


async def test_a_restart_reads_no_window_again(tmp_path: Path) -> None:
    stepped = SteppedModel()
    before = Server(tmp_path, stepped)
    async with running(before) as server:
        job = await server.jobs.submit(EVE, JobRequest(), pieces(pcm(23)))
        for _ in range(3):
            stepped.steps.release()
        while server.observer.windows < 3:
            await asyncio.sleep(0)
        async for event in server.jobs.events(EVE, job.id):
            if event is not None:
                break
    assert before.observer.told[-1] == ("put back", "the service stops")
    async with running(Server(tmp_path, ScriptedModel())) as server:
        ended = await server.ended(job, EVE)
        assert ended.status is JobStatus.COMPLETED
        assert ("began", 3) in server.observer.told
        assert server.observer.windows == 3
        plain = await replace(server.runner.transcribe_file, limits=replace(_LIMITS, timeout_s=60))(pieces(pcm(23)))
        _, transcript = await server.jobs.result(EVE, job.id)
        assert [word.start_s for word in transcript.words] == [word.start_s for word in plain.words]
        assert server.quota.charged == []


def call() -> bytes:
    """Two people: the first one speaks for 6 s, then both do."""
    frames = np.random.default_rng(1).integers(-8000, 8000, (23 * 16000, 2)).astype("<i2")
    frames[: 6 * 16000, 1] = 0
    return frames.tobytes()


async def test_separate_channels_are_read_as_the_file_use_case_does(tmp_path: Path) -> None:
    server = Server(tmp_path, ScriptedModel())
    server.decoder.channels = 2
    async with running(server):
        ended = await server.ended(await server.jobs.submit(BOB, JobRequest(separate=True), pieces(call())))
        plain = await replace(server.runner.transcribe_file, limits=replace(_LIMITS, timeout_s=60))(
            pieces(call()), separate=True
        )
        _, transcript = await server.jobs.result(BOB, ended.id)
        assert transcript == plain
        assert {word.channel for word in transcript.words} == {0, 1}
        assert ended.duration_s == 23.0
        # Each channel that is read costs as much as a recording.
        assert server.quota.charged == [("key bob", 46.0)]
        news = [event.data async for event in server.jobs.events(BOB, ended.id) if event][:-1]
        assert {one["channel"] for one in news} == {0, 1}
        assert {one["duration_s"] for one in news} == {23.0}
        done_s = [one["done_s"] for one in news]
        assert done_s == sorted(done_s)


async def test_a_restart_reads_no_window_of_a_channel_again(tmp_path: Path) -> None:
    stepped = SteppedModel()
    before = Server(tmp_path, stepped)
    before.decoder.channels = 2
    async with running(before) as server:
        job = await server.jobs.submit(BOB, JobRequest(separate=True), pieces(call()))
        for _ in range(5):
            stepped.steps.release()
        while server.observer.windows < 5:
            await asyncio.sleep(0)
    after = Server(tmp_path, ScriptedModel())
    after.decoder.channels = 2
    windows: list[Progress] = []
    async with running(after) as server:
        await server.ended(job)
        plain = await replace(server.runner.transcribe_file, limits=replace(_LIMITS, timeout_s=60))(
            # In other pieces: where a block ends must not matter.
            pieces(*(call()[start : start + 44444] for start in range(0, len(call()), 44444))),
            separate=True,
            on_progress=windows.append,
        )
        _, transcript = await server.jobs.result(BOB, job.id)
        assert transcript == plain
        assert ("began", 5) in server.observer.told
        assert server.observer.windows == len(windows) - 5
        assert server.quota.charged == [("key bob", 46.0)]


async def test_a_drain_puts_jobs_back_at_once(tmp_path: Path) -> None:
    async with opened(Server(tmp_path, SteppedModel())) as server:
        await server.model.start()
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        task = asyncio.create_task(server.runner.run())
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
        await server.drain.finish()
        await task
        assert (await server.jobs.find(BOB, job.id)).status is JobStatus.QUEUED


async def test_a_job_that_cannot_be_read_fails_with_the_reason(tmp_path: Path) -> None:
    async with running(Server(tmp_path, ScriptedModel())) as server:
        for recording, code in ((NOT_AUDIO, "undecodable_audio"), (pcm(61), "audio_too_long"), (b"", "empty_audio")):
            ended = await server.ended(await server.jobs.submit(BOB, JobRequest(), pieces(recording)))
            assert ended.error is not None
            assert (ended.status, ended.error.code) == (JobStatus.FAILED, code)
            with pytest.raises(JobConflictError, match="it is failed"):
                await server.jobs.result(BOB, ended.id)


async def test_our_own_fault_is_tried_again_and_then_told(tmp_path: Path) -> None:
    for failure, code in ((InferenceError("It broke."), "inference_failed"), (KeyError("x"), "internal_error")):
        async with running(Server(tmp_path, FailingModel(failure))) as server:
            job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
            while not server.observer.failures:
                await server.changes.wait(0.1)
            for _ in range(2):
                number = len(server.observer.failures)
                while len(server.observer.failures) == number:
                    server.now += 100
                    server.changes.announce()
                    await asyncio.sleep(0)
            ended = await server.ended(job)
            assert ended.error is not None
            assert ended.error.code == code
            assert len(server.observer.failures) == 3


async def test_what_is_busy_is_waited_for(tmp_path: Path) -> None:
    class BusyModel(ScriptedModel):
        busy = 1

        async def transcribe(self, *arguments: object, **more: object) -> tuple:  # type: ignore[type-arg]
            if self.busy:
                self.busy -= 1
                raise OverloadedError("Busy.", retry_after_s=0.0)
            return await super().transcribe(*arguments, **more)  # type: ignore[arg-type]

    async with running(Server(tmp_path, BusyModel())) as server:
        ended = await server.ended(await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3))))
        assert ended.status is JobStatus.COMPLETED


async def test_a_busy_decoder_puts_the_job_back(tmp_path: Path) -> None:
    class BusyDecoder(FakeDecoder):
        busy = 1

        async def _blocks(self, source: AsyncIterable[bytes], *, separate: bool) -> AsyncIterator[Samples]:
            if self.busy:
                self.busy -= 1
                raise OverloadedError("Too many recordings are being decoded.", retry_after_s=50.0)
            async for block in super()._blocks(source, separate=separate):
                yield block

    server = Server(tmp_path, ScriptedModel())
    server.decoder = BusyDecoder()
    server.runner = replace(
        server.runner, transcribe_file=replace(server.runner.transcribe_file, decoder=server.decoder)
    )
    async with running(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        while ("put back", "overloaded") not in server.observer.told:
            await server.changes.wait(0.1)
        server.now += 60
        server.changes.announce()
        assert (await server.ended(job)).status is JobStatus.COMPLETED


async def test_a_job_under_which_servers_die_is_given_up(tmp_path: Path) -> None:
    async with opened(Server(tmp_path, ScriptedModel())) as server:
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        for _ in range(20):
            assert await server.store.claim(server.now)
            server.now += 3700
    async with running(Server(tmp_path, ScriptedModel())) as server:
        ended = await server.ended(job)
        assert ended.error is not None
        assert ended.error.code == "internal_error"


async def test_the_same_request_again_gives_the_same_job(tmp_path: Path) -> None:
    async with opened(Server(tmp_path, ScriptedModel())) as server:
        jobs = server.jobs
        first = await jobs.submit(BOB, JobRequest(), pieces(pcm(3)), idempotency_key="k")
        assert await jobs.submit(BOB, JobRequest(), pieces(pcm(1), pcm(2)), idempotency_key="k") == first
        with pytest.raises(IdempotencyConflictError):
            await jobs.submit(BOB, JobRequest(), pieces(pcm(4)), idempotency_key="k")
        with pytest.raises(IdempotencyConflictError):
            await jobs.submit(BOB, JobRequest(track=2), pieces(pcm(3)), idempotency_key="k")
        assert [path.name for path in (tmp_path / "recordings").iterdir()] == [first.id]
        assert await jobs.list(BOB) == [first]


async def test_a_job_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async with opened(Server(tmp_path, ScriptedModel())) as server:
        for _ in range(3):
            await server.jobs.submit(BOB, JobRequest(file_url="https://example.com/a.wav"), None)
        with pytest.raises(RateLimitError):
            await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        assert not list((tmp_path / "recordings").iterdir())
        with pytest.raises(UrlNotAllowedError):
            await server.jobs.submit(BOB, JobRequest(file_url="https://10.0.0.1"), None)
        with pytest.raises(InvalidRequestError, match="WEBHOOK_SECRET"):
            await server.jobs.submit(BOB, JobRequest(webhook_url="https://example.com/hook"), pieces(pcm(3)))


async def test_a_recording_is_fetched_once(tmp_path: Path) -> None:
    stepped = SteppedModel()
    async with running(Server(tmp_path, stepped)) as server:
        job = await server.jobs.submit(BOB, JobRequest(file_url="https://example.com/a.wav"), None)
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
    without_web = Server(tmp_path, ScriptedModel())
    without_web.web.recordings.clear()
    async with running(without_web) as server:
        ended = await server.ended(job)
        assert (ended.status, ended.duration_s) == (JobStatus.COMPLETED, 3.0)


async def test_a_recording_that_cannot_be_fetched_fails_the_job(tmp_path: Path) -> None:
    async with running(Server(tmp_path, ScriptedModel())) as server:
        job = await server.jobs.submit(BOB, JobRequest(file_url="https://example.com/a.wav"), None)
        server.web.recordings.clear()
        ended = await server.ended(job)
        assert ended.error is not None
        assert ended.error.code == "url_not_allowed"


async def test_a_job_is_cancelled_and_then_deleted(tmp_path: Path) -> None:
    async with running(Server(tmp_path, SteppedModel())) as server:
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
        with pytest.raises(JobNotFoundError):
            await server.jobs.cancel_or_delete(EVE, job.id)
        cancelled = await server.jobs.cancel_or_delete(BOB, job.id)
        assert cancelled is not None
        assert cancelled.status is JobStatus.CANCELLED
        assert not list((tmp_path / "recordings").iterdir())
        with pytest.raises(JobConflictError):
            await server.jobs.send_webhook_again(BOB, job.id)
        assert await server.jobs.cancel_or_delete(BOB, job.id) is None
        with pytest.raises(JobNotFoundError):
            await server.jobs.find(BOB, job.id)


async def test_a_wait_ends_with_its_time(tmp_path: Path) -> None:
    server = Server(tmp_path, ScriptedModel())
    waited: list[float] = []

    class Passing(Changes):
        async def wait(self, longest_s: float) -> None:
            waited.append(longest_s)
            server.now += 20

    server.jobs = replace(server.jobs, changes=Passing())
    async with opened(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        assert (await server.jobs.find(BOB, job.id, wait_s=30)).status is JobStatus.QUEUED
        assert waited == [1.0, 1.0]


async def test_a_job_without_news_says_so_until_its_end(tmp_path: Path) -> None:
    async with opened(Server(tmp_path, ScriptedModel())) as server:
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        news = server.jobs.events(BOB, job.id)
        assert await anext(news) is None
        await server.jobs.cancel_or_delete(BOB, job.id)
        assert [event.type async for event in news if event] == ["job.cancelled"]


@pytest.mark.parametrize("lost_at", ["keep_progress", "finish"])
async def test_a_job_that_is_lost_while_it_is_read_is_left_alone(tmp_path: Path, lost_at: str) -> None:
    class LosingStore(SqlJobStore):
        lost = 0

        async def keep_progress(self, job_id: str, event: JobEvent, *, done_s: float) -> None:
            self._lose("keep_progress")
            await super().keep_progress(job_id, event, done_s=done_s)

        async def finish(self, job_id: str, ending: Ending) -> Job:
            self._lose("finish")
            return await super().finish(job_id, ending)

        def _lose(self, where: str) -> None:
            if where == lost_at:
                self.lost += 1
                raise LeaseLostError

    stepped = SteppedModel()
    server = Server(tmp_path, stepped)
    server.store = store = LosingStore(Database(sqlite_engine(tmp_path / "jobs.db")), lease_s=3600, alone=True)
    server.jobs = replace(server.jobs, store=store)
    server.runner = replace(server.runner, store=store)
    async with running(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(12)))
        stepped.steps.release()
        if lost_at == "finish":
            for _ in range(5):
                stepped.steps.release()
        while not store.lost:
            await asyncio.sleep(0)
        assert (await server.jobs.find(BOB, job.id)).status is JobStatus.RUNNING
        assert ("ended", "completed") not in server.observer.told


async def test_what_has_ended_is_deleted_after_its_time(tmp_path: Path) -> None:
    async with running(Server(tmp_path, ScriptedModel(), retention_s=60)) as server:
        job = await server.ended(await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3))))
    later = Server(tmp_path, ScriptedModel(), retention_s=60)
    later.now = 2000.0
    async with running(later):
        while not any(what == "counted" for what, _ in later.observer.told):
            await later.changes.wait(0.1)
        with pytest.raises(JobNotFoundError):
            await later.jobs.find(BOB, job.id)


def test_a_request_is_stored_as_it_was() -> None:
    request = JobRequest(2, ("Ana",), VadParams(), 1, True, "https://a", "https://b", {"x": [1]}, {"y": "z"})
    assert JobRequest.of_json(request.as_json()) == request
    assert JobRequest.of_json(JobRequest().as_json()) == JobRequest()
    # A request that is sent again after an upgrade is the same one.
    assert "separate" not in JobRequest().as_json()
    assert JobEvent(1, "job.progress", {}).number == 1


class Sender:
    """Takes messages once `failures` are used up."""

    def __init__(self, failures: int = 0, defect: Exception | None = None) -> None:
        self.failures = failures
        self.defect = defect
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, url: str, *, message_id: str, body: bytes) -> None:
        assert url == "https://example.com/hook"
        self.sent.append((message_id, body))
        if self.defect is not None:
            raise self.defect
        if self.failures:
            self.failures -= 1
            raise WebhookFailedError("no route")


@asynccontextmanager
async def sending(server: Server, sender: Sender) -> AsyncGenerator[Job]:
    """A failed job whose end is being told."""
    server.jobs = replace(server.jobs, tells=True)
    webhooks = JobWebhooks(server.store, sender, server.changes, server.observer, clock=lambda: server.now)
    async with running(server):
        request = JobRequest(webhook_url="https://example.com/hook", metadata={"a": 1})
        job = await server.jobs.submit(BOB, request, pieces(NOT_AUDIO))
        await server.ended(job)
        task = asyncio.create_task(webhooks.run())
        try:
            yield job
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _webhook(server: Server, job: Job, status: WebhookStatus, *, attempts: int) -> WebhookState:
    while True:
        state = (await server.jobs.find(BOB, job.id)).webhook
        assert state is not None
        if (state.status, state.attempts) == (status, attempts):
            return state
        server.changes.announce()


async def test_the_end_is_told_until_it_is_heard(tmp_path: Path) -> None:
    sender = Sender(failures=2)
    server = Server(tmp_path, ScriptedModel())
    async with sending(server, sender) as job:
        state = await _webhook(server, job, WebhookStatus.PENDING, attempts=1)
        assert state.last_error == "no route"
        server.now += 6
        await _webhook(server, job, WebhookStatus.PENDING, attempts=2)
        server.now += 31
        state = await _webhook(server, job, WebhookStatus.DELIVERED, attempts=3)
        assert set(sender.sent) == {sender.sent[0]}
        message = json.loads(sender.sent[0][1])
        assert sender.sent[0][0] == state.id
        assert message["type"] == "job.failed"
        assert message["timestamp"] == "1970-01-01T00:16:40Z"
        assert message["data"]["id"] == job.id
        assert message["data"]["error"]["code"] == "undecodable_audio"
        assert message["data"]["metadata"] == {"a": 1}
        shown = (await server.jobs.find(BOB, job.id)).as_json()["webhook"]
        assert shown == {"id": state.id, "status": "delivered", "attempts": 3, "last_error": None}


async def test_who_never_hears_is_given_up_and_can_be_told_again(tmp_path: Path) -> None:
    sender = Sender(failures=len(RETRIES_S) + 1)
    server = Server(tmp_path, ScriptedModel())
    async with sending(server, sender) as job:
        for attempt, pause_s in enumerate(RETRIES_S, 1):
            await _webhook(server, job, WebhookStatus.PENDING, attempts=attempt)
            server.now += pause_s + 1
        dead = await _webhook(server, job, WebhookStatus.DEAD, attempts=len(RETRIES_S) + 1)
        assert ("webhook", (11, "no route", True)) in server.observer.told
        again = await server.jobs.send_webhook_again(BOB, job.id)
        assert again.webhook is not None
        assert again.webhook.id == dead.id
        await _webhook(server, job, WebhookStatus.DELIVERED, attempts=1)


async def test_a_defect_of_the_sender_is_told(tmp_path: Path) -> None:
    defect = KeyError("x")
    server = Server(tmp_path, ScriptedModel())
    async with sending(server, Sender(defect=defect)):
        while not server.observer.failures:
            await asyncio.sleep(0)
        assert server.observer.failures == [defect]


async def test_a_job_that_another_server_has_taken_is_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path, SteppedModel())
    server.runner = replace(server.runner, limits=replace(server.runner.limits, lease_s=0.0))
    async with running(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        assert isinstance(server.model, SteppedModel)
        # A job that is taken before has no reading to cancel.
        while not server.model.asked:
            await asyncio.sleep(0)
        await server.store.cancel(BOB.owner, job.id, server.now)
        while not server.model.cancelled:
            await asyncio.sleep(0)
        other = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        server.model.steps.release()
        assert (await server.ended(other)).status is JobStatus.COMPLETED


async def test_a_reader_whose_job_is_cancelled_keeps_nothing(tmp_path: Path) -> None:
    async with running(Server(tmp_path, SteppedModel())) as server:
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
        await server.jobs.cancel_or_delete(BOB, job.id)
        other = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        assert isinstance(server.model, SteppedModel)
        server.model.steps.release()
        server.model.steps.release()
        assert (await server.ended(other)).status is JobStatus.COMPLETED
        assert (await server.jobs.find(BOB, job.id)).status is JobStatus.CANCELLED


async def test_a_job_that_ends_while_it_is_cancelled_is_given_as_it_ended(tmp_path: Path) -> None:
    class LateStore(SqlJobStore):
        async def cancel(self, owner: str, job_id: str, now: float) -> Job:
            await super().cancel(owner, job_id, now)
            return await super().cancel(owner, job_id, now)

    server = Server(tmp_path, ScriptedModel())
    server.store = LateStore(Database(sqlite_engine(tmp_path / "jobs.db")), lease_s=30, alone=True)
    server.jobs = replace(server.jobs, store=server.store)
    async with opened(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        ended = await server.jobs.cancel_or_delete(BOB, job.id)
        assert ended is not None
        assert ended.status is JobStatus.CANCELLED


async def test_a_job_waits_for_the_model(tmp_path: Path) -> None:
    server = Server(tmp_path, ScriptedModel())
    async with opened(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        task = asyncio.create_task(server.runner.run())
        for _ in range(5):
            await asyncio.sleep(0)
        await server.model.start()
        server.changes.announce()
        assert (await server.ended(job)).status is JobStatus.COMPLETED
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_stands_in_for_the_model_streams_as_it_does(tmp_path: Path) -> None:
    server = Server(tmp_path, ScriptedModel())
    await server.model.start()
    model = CheckpointedModel(
        server.model, "job_1", {}, channel=0, store=server.store, places=asyncio.Semaphore(1), observer=server.observer
    )
    await model.start()
    await model.aclose()
    assert model.describe() == server.model.describe()
    async with model.open_stream(StreamContext(left_s=1, chunk_s=1, right_s=1)) as stream:
        assert stream
    await server.store.aclose()


async def test_trouble_with_the_store_is_told(tmp_path: Path) -> None:
    class BrokenStore(SqlJobStore):
        async def claim(self, now: float) -> None:
            raise JobStorageError(f"Gone at {now}.")

    server = Server(tmp_path, ScriptedModel())
    server.store = BrokenStore(Database(sqlite_engine(tmp_path / "jobs.db")), lease_s=30, alone=True)
    server.runner = replace(server.runner, store=server.store)
    async with running(server):
        while ("reading jobs", None) not in server.observer.told:
            await asyncio.sleep(0)


class FullStore(SqlJobStore):
    """A store on a disk that is full while `full` is true; it notes what was renewed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Database(sqlite_engine(directory / "jobs.db")), lease_s=30, alone=True)
        self.full = True
        self.renewed: list[frozenset[str]] = []

    def _check(self) -> None:
        if self.full:
            raise StorageFullError("Full.", retry_after_s=30.0)

    async def keep_window(self, job_id: str, key: WindowKey, tokens: Sequence[Token]) -> None:
        self._check()
        await super().keep_window(job_id, key, tokens)

    async def release(self, job_id: str, *, ready_at: float, counts: bool) -> None:
        self._check()
        await super().release(job_id, ready_at=ready_at, counts=counts)

    async def renew(self, now: float, job_ids: Collection[str]) -> frozenset[str]:
        self.renewed.append(await super().renew(now, job_ids))
        return self.renewed[-1]

    async def renewals(self, number: int = 2) -> None:
        """Wait for so many; of two, one has begun since."""
        until = len(self.renewed) + number
        while len(self.renewed) < until:
            await asyncio.sleep(0)


def _with(store: FullStore, server: Server, *, workers: int = 2) -> Server:
    server.store = store
    server.jobs = replace(server.jobs, store=store)
    limits = replace(server.runner.limits, lease_s=0.0, workers=workers)
    server.runner = replace(server.runner, store=store, limits=limits)
    return server


async def test_a_job_that_a_full_disk_kept_from_the_queue_is_read_when_its_lease_has_ended(tmp_path: Path) -> None:
    store = FullStore(tmp_path)
    async with running(_with(store, Server(tmp_path, ScriptedModel()))) as server:
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(23)))
        while not server.observer.failures:
            await server.changes.wait(0.1)
        await store.renewals()
        assert store.renewed[-1] == frozenset()
        assert (await server.jobs.find(BOB, job.id)).status is JobStatus.RUNNING
        store.full = False
        server.now += 31
        server.changes.announce()
        assert (await server.ended(job)).status is JobStatus.COMPLETED
        assert isinstance(server.observer.failures[0], StorageFullError)


async def test_a_full_disk_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    store = FullStore(tmp_path)
    async with opened(_with(store, Server(tmp_path, SteppedModel()))) as server:
        await server.model.start()
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        task = asyncio.create_task(server.runner.run())
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
        await server.drain.finish()
        await task
        assert ("putting a job back", job.id) in server.observer.told
    store = FullStore(tmp_path)
    store.full = False
    async with running(_with(store, Server(tmp_path, ScriptedModel()))) as server:
        assert (await server.ended(job)).status is JobStatus.COMPLETED


async def test_a_server_that_slept_for_longer_than_its_lease_reads_its_job_once(tmp_path: Path) -> None:
    class ClaimingStore(FullStore):
        claimed = 0

        async def claim(self, now: float) -> Claim | None:
            claim = await super().claim(now)
            self.claimed += claim is not None
            return claim

    stepped = SteppedModel()
    store = ClaimingStore(tmp_path)
    store.full = False
    server = _with(store, Server(tmp_path, stepped))
    server.runner = replace(server.runner, limits=replace(server.runner.limits, lease_s=3600))
    async with running(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        while ("began", 0) not in server.observer.told:
            await server.changes.wait(0.1)
        # The worker that has nothing to do looks before the lease is renewed.
        server.now += 31
        server.changes.announce()
        while store.claimed < 2:
            await asyncio.sleep(0)
        stepped.steps.release()
        assert (await server.ended(job)).status is JobStatus.COMPLETED
    assert [one for one, _ in server.observer.told].count("began") == 1
    assert not server.observer.failures


async def test_an_end_that_takes_long_is_not_taken_for_a_lost_lease(tmp_path: Path) -> None:
    store = FullStore(tmp_path)
    store.full = False

    class SlowRecordings(FileRecordings):
        async def remove(self, job_id: str) -> None:
            await store.renewals()
            await super().remove(job_id)

    server = _with(store, Server(tmp_path, ScriptedModel()))
    server.recordings = SlowRecordings(tmp_path / "recordings")
    server.runner = replace(server.runner, recordings=server.recordings)
    server.jobs = replace(server.jobs, recordings=server.recordings)
    async with running(server):
        job = await server.jobs.submit(BOB, JobRequest(), pieces(pcm(3)))
        while ("ended", "completed") not in server.observer.told:
            await server.changes.wait(0.1)
        assert not await server.recordings.has(job.id)


async def test_a_model_that_cannot_be_loaded_is_no_trouble_of_jobs(tmp_path: Path) -> None:
    class Unloadable(ScriptedModel):
        looks = 0

        def describe(self) -> ModelDescription:
            self.looks += 1
            raise ModelLoadError("There is none.")

    model = Unloadable()
    server = Server(tmp_path, model)
    async with running(server):
        while model.looks < 3:
            server.changes.announce()
            await asyncio.sleep(0)
        assert not server.observer.failures
