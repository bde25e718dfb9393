"""What happens to callers while the shared storage of rate limits is gone."""

import socket

import pytest
from structlog.testing import capture_logs

from parakeet_service.adapters.rate_limits import RateLimits
from parakeet_service.domain.errors import OverloadedError


def nobody_listens() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{free.getsockname()[1]}/0"


async def test_requests_are_told_to_come_again_and_the_log_says_why() -> None:
    limits = RateLimits(requests="3/minute", audio_s="", storage=nobody_listens())
    with capture_logs() as lines, pytest.raises(OverloadedError, match="rate limits cannot be reached") as refusal:
        await limits.admit("key bob")
    assert refusal.value.retry_after_s == 5
    assert [(line["event"], line["log_level"]) for line in lines] == [("rate_limits_unreachable", "error")]


async def test_audio_that_has_been_transcribed_is_no_error() -> None:
    limits = RateLimits(requests="", audio_s="60/minute", storage=nobody_listens())
    with capture_logs() as lines:
        await limits.charge("key bob", 2.5)
    assert [(line["event"], line["audio_s"]) for line in lines] == [("audio_not_counted", 2.5)]


async def test_without_limits_nothing_is_asked() -> None:
    limits = RateLimits(requests="", audio_s="", storage=nobody_listens())
    await limits.admit("key bob")
    await limits.charge("key bob", 2.5)
