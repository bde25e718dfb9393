"""The port that says how much audio a caller may have transcribed in a while."""

from typing import Protocol


class Quota(Protocol):
    """Counts seconds of audio by caller. An entrypoint names the caller; the use-cases charge it."""

    async def charge(self, caller: str, audio_s: float) -> None:
        """Count audio that was transcribed, or that arrived in a live session.

        Args:
            caller: Who asked, such as ``"key bob"`` or ``"address 192.0.2.1"``.
            audio_s: Seconds; zero or less counts nothing.

        Raises:
            RateLimitError: The caller has thereby exceeded its limit; all of it was counted.
        """
        ...


class UnlimitedQuota:
    """Everybody may have as much as they like."""

    async def charge(self, caller: str, audio_s: float) -> None:
        """See the port."""
