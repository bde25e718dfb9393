"""Which worker is given what."""

import asyncio

import numpy as np

from parakeet_service.adapters.inference.job_queue import JobQueue, Urgency
from parakeet_service.adapters.inference.jobs import DecodeResult, EncoderJob
from parakeet_service.adapters.ray.dispatch import Dispatch, Place, Planner, Queued
from parakeet_service.application.ports.metrics import NullMetrics

from .fake_workers import RATE_HZ, FakeWorker


def queued(number: int, urgency: Urgency) -> Queued:
    future: asyncio.Future[DecodeResult] = asyncio.get_running_loop().create_future()
    return Queued(EncoderJob(np.zeros(RATE_HZ, np.float32)), urgency, 1.0, number, float(number), future)


async def test_a_live_window_whose_caller_has_left_keeps_no_other_waiting() -> None:
    queue = JobQueue[EncoderJob, DecodeResult](most_waiting=64, most_per_batch=1, metrics=NullMetrics())
    dispatch = Dispatch(queue, Planner(RATE_HZ), batch_size=1)
    place = Place(0, FakeWorker(0, at_once=False, is_poison=lambda _: False))
    dispatch.places.append(place)
    for number in range(2):
        place.give(queued(number, Urgency.LONG))
    left, stays = queued(2, Urgency.LIVE), queued(3, Urgency.LIVE)
    for one in (left, stays):
        queue.put(one, mean_s=1.0)
    left.future.cancel()
    assert dispatch.hand_out() == [(place, [stays])]
    assert not len(queue)
