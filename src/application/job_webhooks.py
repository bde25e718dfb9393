"""Sends webhooks at the end of jobs, with retries for a day, over restarts."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .changes import Changes
from .ports.job_observer import JobObserver
from .ports.job_store import Delivery, JobStore
from .ports.webhook_sender import WebhookFailedError, WebhookSender

RETRIES_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""Pauses between attempts; together a day."""
_LOOK_S = 1.0
_TROUBLE_S = 5.0
_AT_ONCE = 4
"""Messages that are sent at once: a receiver that hangs holds up no other."""


@dataclass(frozen=True, slots=True)
class JobWebhooks:
    """Sends what is due while `run` runs.

    A message is sent at least once: where this process dies between sending it and noting that, it is sent again, under
    the same id.
    """

    store: JobStore
    sender: WebhookSender
    changes: Changes
    observer: JobObserver
    clock: Callable[[], float] = time.time

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._forever())

    async def _forever(self) -> None:
        while True:
            try:
                delivery = await self.store.claim_delivery(self.clock())
                if delivery is None:
                    await self.changes.wait(_LOOK_S)
                else:
                    await self._deliver(delivery)
            except Exception as error:  # noqa: BLE001 - the outermost handler of work that nobody waits for
                self.observer.failed_unexpectedly("sending webhooks", error)
                await asyncio.sleep(_TROUBLE_S)

    async def _deliver(self, delivery: Delivery) -> None:
        job = delivery.job
        failure: str | None = None
        is_last = delivery.attempts >= len(RETRIES_S)
        try:
            await self.sender.send(delivery.url, message_id=delivery.id, body=message_of(delivery))
        except WebhookFailedError as error:
            failure = str(error)
            next_at = None if is_last else self.clock() + RETRIES_S[delivery.attempts]
            await self.store.delivery_failed(delivery, reason=failure, next_at=next_at)
        else:
            await self.store.delivered(delivery)
        self.observer.webhook_tried(
            job_id=job.id, webhook_id=delivery.id, attempt=delivery.attempts + 1, failure=failure, is_last=is_last
        )


def message_of(delivery: Delivery) -> bytes:
    """The message in the form of Standard Webhooks: type, timestamp, and the job as its routes show it.

    It says nothing of the delivery, so that it is the same at every attempt.
    """
    job = delivery.job
    at = datetime.fromtimestamp(job.finished_at or delivery.created_at, UTC).isoformat().replace("+00:00", "Z")
    data = {name: value for name, value in job.as_json().items() if name != "webhook"}
    message = {"type": f"job.{job.status}", "timestamp": at, "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
