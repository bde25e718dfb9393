"""What every `JobStore` promises."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from parakeet_service.application.ports.job_store import (
    Admission,
    Delivery,
    Ending,
    JobStore,
    LeaseLostError,
    NewJob,
    WindowKey,
)
from parakeet_service.domain.errors import (
    IdempotencyConflictError,
    JobConflictError,
    JobNotFoundError,
    OverloadedError,
    RateLimitError,
    StorageFullError,
)
from parakeet_service.domain.jobs import Job, JobError, JobEvent, JobRequest, JobStatus, WebhookStatus
from parakeet_service.domain.transcript import Token

ROOMY = Admission(most_unfinished=100, most_of_owner=100, most_bytes=1000)
LEASE_S = 30.0
TOKENS = (Token(1, " Grüße", 0.5, 0.75, 0.9), Token(2, "", 0.75, 0.75, 1.0))
KEY = WindowKey(1000, 16000)
HOOKED = JobRequest(webhook_url="https://example.com/hook", metadata={"a": [1, "ä"]})


def a_job(number: int, *, owner: str = "key bob", request: JobRequest | None = None) -> Job:
    return Job(f"job_{number:04}", owner, owner, request or JobRequest(), JobStatus.QUEUED, created_at=float(number))


class JobStoreContract(ABC):
    @abstractmethod
    def make(self) -> JobStore:
        """One server's store; those of one test share what is stored, and no other test's."""

    @asynccontextmanager
    async def servers(self, number: int = 1) -> AsyncGenerator[list[JobStore]]:
        async with AsyncExitStack() as stack:
            stores = [self.make() for _ in range(number)]
            for store in stores:
                await store.open()
                stack.push_async_callback(store.aclose)
            yield stores

    async def test_gives_a_job_back_as_it_was(self) -> None:
        async with self.servers() as [store]:
            job = a_job(1, request=HOOKED)
            assert await store.add(NewJob(job), ROOMY) == job
            assert await store.find("key bob", job.id) == job
            assert await store.unfinished() == {job.id}
            assert (await store.counts()).jobs == {JobStatus.QUEUED: 1}

    async def test_shows_jobs_to_their_owner_only(self) -> None:
        async with self.servers() as [store]:
            job = await store.add(NewJob(a_job(1)), ROOMY)
            assert await store.jobs_of("key eve", status=None, limit=10, after=None) == []
            for ask in (store.find, store.result, store.delete):
                with pytest.raises(JobNotFoundError):
                    await ask("key eve", job.id)
            for change in (store.cancel, store.deliver_again):
                with pytest.raises(JobNotFoundError):
                    await change("key eve", job.id, 1.0)
            with pytest.raises(JobNotFoundError):
                await store.jobs_of("key eve", status=None, limit=10, after=job.id)

    async def test_the_same_key_gives_the_same_job(self) -> None:
        async with self.servers() as [store]:
            first = await store.add(NewJob(a_job(1), 1, "again", "abc"), ROOMY)
            assert await store.add(NewJob(a_job(2), 1, "again", "abc"), ROOMY) == first
            with pytest.raises(IdempotencyConflictError):
                await store.add(NewJob(a_job(3), 1, "again", "other"), ROOMY)
            other = a_job(4, owner="key eve")
            assert await store.add(NewJob(other, 1, "again", "abc"), ROOMY) == other

    async def test_requests_with_one_key_that_come_at_once_give_one_job(self) -> None:
        async with self.servers(2) as stores:
            new = [NewJob(a_job(number), 1, "again", "abc") for number in range(8)]
            jobs = await asyncio.gather(*(stores[i % 2].add(one, ROOMY) for i, one in enumerate(new)))
            assert len({job.id for job in jobs}) == 1

    async def test_takes_no_more_than_it_may(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1), 600), ROOMY)
            with pytest.raises(OverloadedError):
                await store.add(NewJob(a_job(2)), replace(ROOMY, most_unfinished=1))
            with pytest.raises(RateLimitError):
                await store.add(NewJob(a_job(2)), replace(ROOMY, most_of_owner=1))
            await store.add(NewJob(a_job(3, owner="key eve")), replace(ROOMY, most_of_owner=1))
            with pytest.raises(StorageFullError):
                await store.add(NewJob(a_job(4), 500), ROOMY)
            await store.cancel("key bob", "job_0001", 5.0)
            await store.add(NewJob(a_job(4), 500), replace(ROOMY, most_of_owner=1))

    async def test_lists_the_newest_first_in_pages(self) -> None:
        async with self.servers() as [store]:
            for number in range(5):
                await store.add(NewJob(a_job(number)), ROOMY)
            await store.cancel("key bob", "job_0003", 9.0)
            page = await store.jobs_of("key bob", status=None, limit=2, after=None)
            assert [job.id for job in page] == ["job_0004", "job_0003"]
            page = await store.jobs_of("key bob", status=JobStatus.QUEUED, limit=2, after="job_0004")
            assert [job.id for job in page] == ["job_0002", "job_0001"]

    async def test_owners_take_turns_and_their_oldest_go_first(self) -> None:
        async with self.servers() as [store]:
            for number in range(3):
                await store.add(NewJob(a_job(number)), ROOMY)
            await store.add(NewJob(a_job(9, owner="key eve")), ROOMY)
            claims = [await store.claim(10.0) for _ in range(5)]
            assert [claim and claim.job.id for claim in claims] == [
                "job_0000",
                "job_0009",
                "job_0001",
                "job_0002",
                None,
            ]
            first = claims[0]
            assert first is not None
            assert (first.attempts, first.job.status, first.job.started_at) == (1, JobStatus.RUNNING, 10.0)

    async def test_a_job_is_claimed_once(self) -> None:
        async with self.servers(2) as stores:
            for number in range(10):
                await stores[0].add(NewJob(a_job(number)), ROOMY)
            claims = await asyncio.gather(*(stores[i % 2].claim(10.0) for i in range(20)))
            ids = [claim.job.id for claim in claims if claim]
            assert len(ids) == len(set(ids))
            left = [claim.job.id for _ in range(10) if (claim := await stores[0].claim(10.0))]
            assert sorted(ids + left) == [f"job_{number:04}" for number in range(10)]

    async def test_a_dead_servers_job_is_taken_over_and_no_longer_its_own(self) -> None:
        async with self.servers(2) as [dead, alive]:
            await dead.add(NewJob(a_job(1)), ROOMY)
            assert await dead.claim(0.0)
            await dead.begin("job_0001", model="m", duration_s=60.0)
            await dead.keep_window("job_0001", KEY, TOKENS)
            assert await dead.renew(20.0, ["job_0001", "job_0002"]) == {"job_0001"}
            assert await alive.claim(20.0 + LEASE_S - 1) is None
            taken = await alive.claim(20.0 + LEASE_S + 1)
            assert taken is not None
            assert (taken.job.started_at, taken.job.duration_s) == (0.0, 60.0)
            assert await alive.begin("job_0001", model="m", duration_s=60.0) == {KEY: TOKENS}
            assert await dead.renew(60.0, ["job_0001"]) == frozenset()
            for step in (
                dead.keep_window("job_0001", KEY, ()),
                dead.keep_progress("job_0001", JobEvent(1, "job.progress", {}), done_s=1.0),
                dead.begin("job_0001", model="m", duration_s=1.0),
                dead.finish("job_0001", Ending(JobStatus.FAILED, 1.0)),
            ):
                with pytest.raises(LeaseLostError):
                    await step
            await dead.release("job_0001", ready_at=0.0, counts=False)
            assert (await alive.find("key bob", "job_0001")).status is JobStatus.RUNNING

    async def test_only_what_is_read_is_renewed(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1)), ROOMY)
            await store.add(NewJob(a_job(2)), ROOMY)
            await store.claim(0.0)
            await store.claim(0.0)
            assert await store.renew(20.0, ["job_0002"]) == {"job_0002"}
            assert await store.renew(21.0, []) == frozenset()
            again = await store.claim(LEASE_S + 1)
            assert again is not None
            assert (again.job.id, again.attempts) == ("job_0001", 2)
            assert await store.claim(LEASE_S + 1) is None

    async def test_forgets_what_another_model_has_read(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1)), ROOMY)
            await store.claim(0.0)
            await store.begin("job_0001", model="old", duration_s=None)
            await store.keep_window("job_0001", KEY, TOKENS)
            await store.keep_window("job_0001", KEY, TOKENS)
            assert await store.begin("job_0001", model="new", duration_s=None) == {}
            assert await store.begin("job_0001", model="new", duration_s=None) == {}

    async def test_channels_have_windows_of_their_own(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1, request=JobRequest(separate=True))), ROOMY)
            await store.claim(0.0)
            assert (await store.find("key bob", "job_0001")).request.separate
            other = replace(KEY, channel=1)
            await store.keep_window("job_0001", KEY, TOKENS)
            await store.keep_window("job_0001", other, TOKENS[:1])
            await store.keep_window("job_0001", other, TOKENS[1:])
            await store.begin("job_0001", model="m", duration_s=None)
            for key, tokens in ((KEY, TOKENS), (other, TOKENS[1:])):
                await store.keep_window("job_0001", key, tokens)
            assert await store.begin("job_0001", model="m", duration_s=None) == {KEY: TOKENS, other: TOKENS[1:]}

    async def test_progress_is_told_once(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1)), ROOMY)
            await store.claim(0.0)
            told = [JobEvent(number, "job.progress", {"words": [number]}) for number in (1, 2)]
            for event in (told[0], told[1], JobEvent(1, "job.progress", {"words": ["again"]})):
                await store.keep_progress("job_0001", event, done_s=event.number * 10.0)
            assert await store.events("job_0001", after=0) == told
            assert await store.events("job_0001", after=1) == told[1:]
            assert (await store.find("key bob", "job_0001")).done_s == 20.0

    async def test_a_job_that_is_put_back_waits_its_time(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1)), ROOMY)
            await store.claim(0.0)
            await store.release("job_0001", ready_at=50.0, counts=True)
            assert await store.claim(49.0) is None
            second = await store.claim(51.0)
            await store.release("job_0001", ready_at=0.0, counts=False)
            third = await store.claim(52.0)
            assert second is not None
            assert third is not None
            assert (second.attempts, third.attempts) == (2, 2)
            await store.keep_window("job_0001", KEY, TOKENS)
            await store.release("job_0001", ready_at=0.0, counts=True)
            fourth = await store.claim(53.0)
            assert fourth is not None
            assert fourth.attempts == 1

    async def test_a_completed_job_has_its_result_and_a_webhook_that_is_due(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1, request=HOOKED)), ROOMY)
            await store.claim(0.0)
            await store.begin("job_0001", model="m", duration_s=60.0)
            assert await store.result("key bob", "job_0001") is None
            with pytest.raises(JobConflictError):
                await store.deliver_again("key bob", "job_0001", 1.0)
            ended = await store.finish("job_0001", Ending(JobStatus.COMPLETED, 5.0, result='{"ä":1}'))
            assert (ended.status, ended.finished_at, ended.done_s) == (JobStatus.COMPLETED, 5.0, 60.0)
            assert await store.find("key bob", "job_0001") == ended
            assert await store.result("key bob", "job_0001") == '{"ä":1}'
            assert await store.unfinished() == frozenset()
            with pytest.raises(JobConflictError):
                await store.cancel("key bob", "job_0001", 6.0)
            delivery = await store.claim_delivery(6.0)
            assert delivery is not None
            assert ended.webhook is not None
            assert (delivery.id, delivery.url, delivery.attempts) == (ended.webhook.id, HOOKED.webhook_url, 0)
            assert delivery.job == ended
            assert await store.claim_delivery(6.0) is None
            await store.delivery_failed(delivery, reason="no route", next_at=20.0)
            assert await store.claim_delivery(19.0) is None
            again = await store.claim_delivery(21.0)
            assert again is not None
            assert (again.id, again.attempts) == (delivery.id, 1)
            await store.delivery_failed(again, reason="still none", next_at=None)
            assert await store.claim_delivery(1e9) is None
            dead = (await store.find("key bob", "job_0001")).webhook
            assert dead is not None
            assert (dead.status, dead.attempts, dead.last_error) == (WebhookStatus.DEAD, 2, "still none")
            assert (await store.counts()).webhooks == {WebhookStatus.DEAD: 1}
            await store.deliver_again("key bob", "job_0001", 30.0)
            third = await store.claim_delivery(31.0)
            assert third is not None
            assert third.id == delivery.id
            await store.delivered(third)
            sent = (await store.find("key bob", "job_0001")).webhook
            assert sent is not None
            assert (sent.status, sent.last_error) == (WebhookStatus.DELIVERED, None)

    async def test_a_webhook_whose_sender_died_is_due_again(self) -> None:
        async with self.servers(2) as [dead, alive]:
            await dead.add(NewJob(a_job(1, request=HOOKED)), ROOMY)
            await dead.claim(0.0)
            await dead.finish("job_0001", Ending(JobStatus.FAILED, 5.0, error=JobError("code", "why")))
            first = await dead.claim_delivery(6.0)
            second = await alive.claim_delivery(7.0 + LEASE_S)
            assert first is not None
            assert second is not None
            assert first.id == second.id
            assert second.job.error == JobError("code", "why")

    async def test_what_a_late_sender_notes_changes_nothing(self) -> None:
        async with self.servers(2) as [late, other]:
            await late.add(NewJob(a_job(1, request=HOOKED)), ROOMY)
            await late.claim(0.0)
            await late.finish("job_0001", Ending(JobStatus.FAILED, 5.0, error=JobError("code", "why")))

            async def note_late(first: Delivery) -> None:
                before = await other.find("key bob", "job_0001")
                await late.delivery_failed(first, reason="late", next_at=None)
                await late.delivery_failed(first, reason="late", next_at=1.0)
                await late.delivered(first)
                assert await other.find("key bob", "job_0001") == before

            first = await late.claim_delivery(6.0)
            second = await other.claim_delivery(7.0 + LEASE_S)
            assert first is not None
            assert second is not None
            await note_late(first)
            await other.delivery_failed(second, reason="no route", next_at=100.0)
            await note_late(first)
            # Its time was not changed either.
            assert await other.claim_delivery(99.0) is None
            third = await other.claim_delivery(101.0)
            assert third is not None
            await other.delivered(third)
            await note_late(first)
            await other.deliver_again("key bob", "job_0001", 200.0)
            await late.delivered(third)
            assert (await other.counts()).webhooks == {WebhookStatus.PENDING: 1}

    async def test_a_cancelled_job_tells_nobody_and_is_nobodys(self) -> None:
        async with self.servers() as [store]:
            await store.add(NewJob(a_job(1, request=HOOKED)), ROOMY)
            await store.claim(0.0)
            with pytest.raises(JobConflictError):
                await store.delete("key bob", "job_0001")
            cancelled = await store.cancel("key bob", "job_0001", 3.0)
            assert (cancelled.status, cancelled.webhook) == (JobStatus.CANCELLED, None)
            assert await store.renew(4.0, ["job_0001"]) == frozenset()
            with pytest.raises(LeaseLostError):
                await store.keep_window("job_0001", KEY, TOKENS)

    async def test_what_is_deleted_is_gone(self) -> None:
        async with self.servers() as [store]:
            for number in (1, 2, 3):
                await store.add(NewJob(a_job(number)), ROOMY)
                await store.claim(0.0)
                await store.keep_progress(f"job_{number:04}", JobEvent(1, "job.progress", {}), done_s=1.0)
                await store.finish(f"job_{number:04}", Ending(JobStatus.COMPLETED, number * 10.0, result="{}"))
            assert await store.delete_ended(before=5.0) == 0
            assert await store.delete_ended(before=25.0) == 2
            await store.delete("key bob", "job_0003")
            assert await store.jobs_of("key bob", status=None, limit=10, after=None) == []
            assert await store.events("job_0003", after=0) == []
            with pytest.raises(JobNotFoundError):
                await store.result("key bob", "job_0003")
