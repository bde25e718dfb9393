"""The port that says how much a caller may ask for in a while."""

from typing import Protocol


class Quota(Protocol):
    """Counts requests and seconds of audio by caller. An entrypoint names the caller; the use-cases charge it."""

    async def admit(self, caller: str) -> None:
        """Count one more request.

        Args:
            caller: Who asks, such as ``"key bob"`` or ``"address 192.0.2.1"``.

        Raises:
            RateLimitError: The caller has used up its requests, or its seconds of audio; this one was not counted.
        """
        ...

    async def charge(self, caller: str, audio_s: float) -> None:
        """Count audio that was transcribed, or that arrived in a live session.

        Args:
            caller: As in `admit`.
            audio_s: Seconds; zero or less counts nothing.

        Raises:
            RateLimitError: The caller has now exceeded its limit; all of the audio was counted.
        """
        ...


class _Unlimited:
    """Everybody may have as much as they like."""

    async def admit(self, caller: str) -> None:
        """See the port."""

    async def charge(self, caller: str, audio_s: float) -> None:
        """See the port."""


UNLIMITED: Quota = _Unlimited()
