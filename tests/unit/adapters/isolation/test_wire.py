"""What goes over the socket to the model's process arrives as it was."""

import asyncio
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakeet_service.adapters.isolation.wire import (
    Answer,
    BrokenFrameError,
    Request,
    answers,
    error_of,
    frame,
    payload_of,
    receive,
    requests,
    samples_of,
)
from parakeet_service.application.ports.speech_model import Decoding, ModelDescription, StreamContext
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


async def reader_of(*pieces: bytes | bytearray) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    return reader


async def sent(answer: Answer) -> Answer:
    received = await receive(await reader_of(frame(answer)), answers)
    assert isinstance(received, Answer)
    return received


@given(hypothesis=hypotheses)
async def test_hypotheses_arrive_exactly(hypothesis: Hypothesis) -> None:
    assert (await sent(Answer(7, hypothesis=hypothesis))).hypothesis == hypothesis


@given(all_tokens=st.lists(tokens).map(tuple))
async def test_tokens_arrive_exactly(all_tokens: tuple[Token, ...]) -> None:
    assert (await sent(Answer(7, tokens=all_tokens))).tokens == all_tokens


async def test_descriptions_arrive_exactly() -> None:
    description = ModelDescription("a/b", "tdt", ("en", "de"), "bf16", "float32", "cpu", None, 16000, 30.5, note="So.")
    assert (await sent(Answer(7, description=description))).description == description


@pytest.mark.parametrize("count", [0, 1, 1001])
async def test_requests_arrive_exactly(count: int) -> None:
    samples = np.random.default_rng(0).normal(size=2 * count).astype(np.float32)[::2]
    request = Request("decode", 5, stream=3, samples=payload_of(samples), start_s=1.5, log={"request_id": "r1"})
    request.context, request.decoding = StreamContext(1.0, 2.0, 3.0), Decoding(4, ("Grüße",))
    arrived = await receive(await reader_of(frame(request)), requests)
    assert arrived == request
    assert arrived is not None
    there = samples_of(arrived.samples)
    assert there.flags.aligned
    np.testing.assert_array_equal(there, samples, strict=True)


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
    answer = await sent(Answer(7, error=(error.code, error.message, vars(error))))
    assert answer.error is not None
    arrived = error_of(*answer.error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


async def test_reads_frames_however_they_are_split() -> None:
    data = frame(Answer(1)) + frame(Answer(2))
    reader = await reader_of(*(data[at : at + 1] for at in range(len(data))))
    assert await receive(reader, answers) == Answer(1)
    assert await receive(reader, answers) == Answer(2)
    assert await receive(reader, answers) is None


async def test_a_frame_that_is_cut_short_is_the_end() -> None:
    assert await receive(await reader_of(frame(Answer(1))[:-1]), answers) is None


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\0\0\0\x02{]", frame(Request("ping"))])
async def test_garbage_is_no_frame(garbage: bytes) -> None:
    with pytest.raises(BrokenFrameError):
        await receive(await reader_of(garbage), answers)
