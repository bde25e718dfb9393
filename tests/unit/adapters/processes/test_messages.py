"""What goes over the socket to a child process arrives as it was."""

import asyncio
import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from parakeet_service.adapters.isolation.host import Decode, OpenStream, Transcribe
from parakeet_service.adapters.processes.messages import (
    Answer,
    BrokenMessageError,
    Call,
    Cancel,
    Failure,
    decoded,
    decoder_of,
    frame,
    receive,
    to_child,
    to_parent,
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


def answer(number: int, result: object = None) -> Answer:
    return Answer(number, result)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - as it is sent


async def answered(result: object, kind: object) -> object:
    message = await receive(await reader_of(frame(answer(7, result))), to_parent)
    assert isinstance(message, Answer)
    assert message.number == 7
    return decoded(message.result, decoder_of(kind))


async def asked(request: Struct, **fields: dict[str, str]) -> Call:
    call = Call(5, request, **fields)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - as it is sent
    message = await receive(await reader_of(frame(call)), to_child)
    assert isinstance(message, Call)
    assert message.number == 5
    return message


@given(hypothesis=hypotheses)
async def test_hypotheses_arrive_exactly(hypothesis: Hypothesis) -> None:
    assert await answered(hypothesis, Hypothesis | None) == hypothesis
    assert await answered(None, Hypothesis | None) is None


@given(all_tokens=st.lists(tokens).map(tuple))
async def test_tokens_arrive_exactly(all_tokens: tuple[Token, ...]) -> None:
    assert await answered(all_tokens, tuple[Token, ...]) == all_tokens


async def test_descriptions_arrive_exactly() -> None:
    description = ModelDescription("a/b", "tdt", ("en", "de"), "bf16", "float32", "cpu", None, 16000, 30.5, note="So.")
    assert await answered(description, ModelDescription) == description


@pytest.mark.parametrize("count", [0, 1, 1001])
async def test_requests_arrive_exactly(count: int) -> None:
    samples = np.random.default_rng(0).normal(size=2 * count).astype(np.float32)[::2]
    request = Transcribe(samples, 1.5, Decoding(4, ("Grüße",)))
    call = await asked(request, log={"request_id": "r1"})
    assert call.log == {"request_id": "r1"}
    arrived = decoded(call.request, decoder_of(Transcribe | Decode | OpenStream))
    assert (arrived.after_s, arrived.decoding) == (request.after_s, request.decoding)
    assert arrived.samples.flags.aligned
    np.testing.assert_array_equal(arrived.samples, samples, strict=True)


async def test_every_kind_of_request_is_told_from_the_others() -> None:
    request = OpenStream(StreamContext(1.0, 2.0, 3.0))
    assert decoded((await asked(request)).request, decoder_of(Transcribe | Decode | OpenStream)) == request


async def test_a_call_without_a_request_is_one() -> None:
    message = await receive(await reader_of(frame(Call(5))), to_child)
    assert message == Call(5)
    assert not Call(5).request


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
    failure = await receive(await reader_of(frame(Failure.of(7, error))), to_parent)
    assert isinstance(failure, Failure)
    arrived = failure.error()
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


async def test_reads_frames_however_they_are_split() -> None:
    data = frame(Cancel(1)) + frame(Cancel(2))
    reader = await reader_of(*(data[at : at + 1] for at in range(len(data))))
    assert await receive(reader, to_child) == Cancel(1)
    assert await receive(reader, to_child) == Cancel(2)
    assert await receive(reader, to_child) is None


async def test_a_frame_that_is_cut_short_is_the_end() -> None:
    assert await receive(await reader_of(frame(answer(1))[:-1]), to_parent) is None


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\0\0\0\x02{]", frame(Cancel(1))])
async def test_garbage_is_no_message(garbage: bytes) -> None:
    with pytest.raises(BrokenMessageError):
        await receive(await reader_of(garbage), to_parent)


async def test_a_result_of_another_type_is_no_message() -> None:
    with pytest.raises(BrokenMessageError):
        decoded(Raw(b"\x01"), decoder_of(tuple[Token, ...]))
