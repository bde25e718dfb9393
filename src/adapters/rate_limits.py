"""The Quota port by the `limits` library, counted in this process or in Redis."""

import math
import time

import structlog
from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from ..domain.errors import OverloadedError, RateLimitError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_STORAGE_TIMEOUT_S = 2.0
_REQUESTS, _AUDIO = "requests", "seconds of audio"


class RateLimits:
    """Counts requests and seconds of audio by caller, in this process until it ends, or where servers share it.

    While a shared storage cannot be reached, requests with a limit are refused, and audio is not counted: what has been
    transcribed by then is given all the same.
    """

    def __init__(self, *, requests: str, audio_s: str, storage: str = "") -> None:
        """Allow each caller so much.

        Args:
            requests: In the words of `limits`, such as ``60/minute; 1000/day``; empty for any.
            audio_s: Seconds of audio, likewise.
            storage: Where to count, such as ``redis://host:6379/0``; empty for this process.

        Raises:
            ConfigurationError: The client of that storage is not installed.
        """
        self._requests = _parsed(requests)
        self._audio = _parsed(audio_s)
        # Not a moving window: that one forgets a cost beyond what is left, and remembers a time for every second.
        self._counted = FixedWindowRateLimiter(_storage(storage))

    async def admit(self, caller: str) -> None:
        """See the port.

        Raises:
            OverloadedError: The storage cannot be reached.
            RateLimitError: See the port.
        """
        try:
            await self._admit(caller)
        except StorageError as error:
            _log.error("rate_limits_unreachable", reason=str(error.storage_error))
            raise OverloadedError("The storage of rate limits cannot be reached.", retry_after_s=5.0) from error

    async def charge(self, caller: str, audio_s: float) -> None:
        """See the port."""
        try:
            await self._charge(caller, audio_s)
        except StorageError as error:
            _log.error("audio_not_counted", audio_s=round(audio_s, 3), reason=str(error.storage_error))

    async def _admit(self, caller: str) -> None:
        for kind, limits in ((_REQUESTS, self._requests), (_AUDIO, self._audio)):
            for limit in limits:
                if not await self._counted.test(limit, kind, caller):
                    raise await self._refusal(limit, kind, caller)
        for limit in self._requests:
            await self._counted.hit(limit, _REQUESTS, caller)

    async def _charge(self, caller: str, audio_s: float) -> None:
        if audio_s <= 0:
            return
        cost = math.ceil(audio_s)
        within = [await self._counted.hit(limit, _AUDIO, caller, cost=cost) for limit in self._audio]
        for limit, is_within in zip(self._audio, within, strict=True):
            if not is_within:
                raise await self._refusal(limit, _AUDIO, caller)

    async def _refusal(self, limit: RateLimitItem, kind: str, caller: str) -> RateLimitError:
        reset, _ = await self._counted.get_window_stats(limit, kind, caller)
        message = f"Rate limit exceeded: {limit.amount} {kind} per {_period(limit)}."
        return RateLimitError(message, retry_after_s=max(reset - time.time(), 1.0))


def _storage(url: str) -> Storage:
    if not url.startswith("redis"):
        return MemoryStorage()
    # A server that is gone must not hold requests up.
    seconds = _STORAGE_TIMEOUT_S
    storage = storage_from_string(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
    )
    if not isinstance(storage, Storage):
        raise TypeError(url)
    return storage


def _parsed(limits: str) -> list[RateLimitItem]:
    return parse_many(limits) if limits else []


def _period(limit: RateLimitItem) -> str:
    return f"{limit.multiples} {limit.GRANULARITY.name}s" if limit.multiples > 1 else limit.GRANULARITY.name
