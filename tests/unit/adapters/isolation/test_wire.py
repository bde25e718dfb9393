"""What goes over the socket to the model's process arrives as it was."""

import asyncio
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.adapters.isolation.wire import (
    BrokenFrameError,
    Message,
    bytes_of,
    error_of,
    frame,
    hypothesis_of,
    object_of,
    receive,
    samples_of,
    state_of,
)
from parakeet_service.domain import errors
from parakeet_service.domain.errors import AudioTooLongError, InvalidRequestError, OverloadedError, ServiceError
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.transcript import Token

seconds = st.floats(0, 1e6)
tokens = st.builds(Token, st.integers(0, 10_000), st.text(min_size=1), seconds, seconds, st.floats(0, 1))
hypotheses = st.builds(Hypothesis, st.lists(tokens).map(tuple), st.lists(tokens).map(tuple), seconds, seconds)
LEAVES: list[type[ServiceError]] = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ServiceError) and "code" in vars(kind)
]


async def reader_of(*pieces: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return reader


async def there_and_back(message: Message, payload: bytes = b"") -> tuple[Message, bytes]:
    received = await receive(await reader_of(frame(message, payload)))
    assert received is not None
    return received


@given(hypothesis=hypotheses)
async def test_hypotheses_arrive_exactly(hypothesis: Hypothesis) -> None:
    message, _ = await there_and_back({"result": object_of(hypothesis)})
    assert hypothesis_of(message["result"]) == hypothesis


async def test_samples_arrive_exactly() -> None:
    samples = np.random.default_rng(0).normal(size=1001).astype(np.float32)
    _, payload = await there_and_back({}, bytes_of(samples[::2]))
    arrived = samples_of(payload)
    assert arrived.dtype == np.float32
    assert (arrived == samples[::2]).all()


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("Later.", retry_after_s=3.5),
        InvalidRequestError("No.", param="beam_size"),
        AudioTooLongError(limit_s=30, duration_s=31.5, chunking_helps=True),
        *(kind("Trigger.") for kind in LEAVES if "message" in inspect.signature(kind).parameters),
    ],
)
async def test_errors_arrive_as_they_were(error: ServiceError) -> None:
    message, _ = await there_and_back({"error": state_of(error)})
    arrived = error_of(message["error"])
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


async def test_reads_frames_however_they_are_split() -> None:
    data = frame({"id": 1}, b"abc") + frame({"id": 2})
    reader = await reader_of(*(data[at : at + 1] for at in range(len(data))))
    assert [await receive(reader) for _ in range(3)] == [({"id": 1}, b"abc"), ({"id": 2}, b""), None]


async def test_a_frame_that_is_cut_short_is_the_end() -> None:
    assert await receive(await reader_of(frame({"id": 1}, b"abc")[:-1])) is None


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\0\0\0\x02\0\0\0\0{]"])
async def test_garbage_is_no_frame(garbage: bytes) -> None:
    with pytest.raises(BrokenFrameError):
        await receive(await reader_of(garbage))
